"""From tower features to rows of the decoder, over the op table."""
