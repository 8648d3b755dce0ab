"""`deploy parity`: a checkpoint on an engine here, held to what its reference implementation computed."""
