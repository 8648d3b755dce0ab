"""Who answers in a terminal conversation: an engine of our own, or a server."""

from collections.abc import Generator, Sequence
from typing import Protocol

from deployer.prompt.messages import ImageSource, Message


class Partner(Protocol):
    """Somebody to talk to."""

    @property
    def name(self) -> str:
        """Who it is, for the first line."""
        ...

    def picture(self, place: str) -> ImageSource:
        """Return the picture at a path or URL, in the form that questions carry. Raises RequestError."""
        ...

    def answer(self, messages: Sequence[Message]) -> Generator[str, None, None]:
        """Yield the answer in pieces; closing the generator ends it.

        Raises RequestError where this question is refused, DeployError or EngineError where nobody answers.
        """
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...
