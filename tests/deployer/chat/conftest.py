"""The fixtures of `tests/support/serving.py`: a server on the fake engine."""

from serving import engine, live

__all__ = ["engine", "live"]
