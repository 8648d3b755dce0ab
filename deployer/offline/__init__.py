"""Inference in Python: prompts in, texts out, no server. Public names stand in `deployer`."""
