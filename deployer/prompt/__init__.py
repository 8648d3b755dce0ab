"""Between messages and token ids with pixels, and back from token ids to text. Imports no torch."""
