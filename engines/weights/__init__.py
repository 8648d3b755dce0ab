"""From a checkpoint folder to the tensors of a network."""
