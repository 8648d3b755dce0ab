"""The language model, as plain objects over the op table."""
