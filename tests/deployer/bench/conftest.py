"""The fixtures of `tests/support/serving.py`."""

from serving import engine, live

__all__ = ["engine", "live"]
