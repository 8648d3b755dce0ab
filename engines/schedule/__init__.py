"""Which sequences take part in which step, and with how many tokens."""
