"""The fake engine of `tests/support/serving.py`."""

from serving import engine

__all__ = ["engine"]
