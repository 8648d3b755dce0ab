"""The fixtures of `tests/support/serving.py` and `browsing.py`."""

from browsing import browse, picture
from serving import api, engine, live, serve, tooled

__all__ = ["api", "browse", "engine", "live", "picture", "serve", "tooled"]
