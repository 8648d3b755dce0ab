"""From pictures to rows of the prompt."""
