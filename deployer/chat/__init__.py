"""`deploy chat`: a conversation in the terminal."""
