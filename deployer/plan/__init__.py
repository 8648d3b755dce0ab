"""What a deployment costs before it runs: bytes, times and limits from the config tree alone. Torch-free."""
