"""How an upstream config.json becomes a `ModelSpec`, and which checkpoint tensor is which. Torch-free."""

from engines.families.registry import known_families, read_spec, rules_for

__all__ = ["known_families", "read_spec", "rules_for"]
