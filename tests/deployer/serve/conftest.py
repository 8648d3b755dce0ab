"""The fixtures of `tests/support/serving.py`."""

from serving import api, engine, live, serve

__all__ = ["api", "engine", "live", "serve"]
