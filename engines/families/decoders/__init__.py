"""Language models inside VLM checkpoints: their configs and the names of their tensors. Torch-free."""

from engines.families.decoders.registry import decoder_rules, read_decoder

__all__ = ["decoder_rules", "read_decoder"]
