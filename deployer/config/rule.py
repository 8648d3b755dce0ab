"""A rule between the values of a tree; `checks.py` lists them all."""

from collections.abc import Callable, Iterator

from deployer.config.schema import DeployConfig

Complaints = Iterator[tuple[str, str]]  # the key that it objects to, and the rest of the message
Rule = Callable[[DeployConfig], Complaints]
