"""Versioned recipes: what they lock, how a lock is held to a machine, and how two deployments differ."""
