"""The plain torch engine: one op table, the truth for all others."""
