"""Quantized weights: how they are laid out in memory."""
