"""Vision transformers over the op table."""
