"""From logits to the next token, and what may hold it back."""
