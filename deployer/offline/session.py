"""A conversation of several turns. A value: a turn gives a new one, and the old one may be continued too."""

from dataclasses import dataclass

from deployer.offline.response import Response
from deployer.prompt.messages import Message, TextPart


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """What was said so far, pictures included, and the last answer."""

    messages: tuple[Message, ...]
    response: Response

    @property
    def history(self) -> tuple[tuple[str, str], ...]:
        """Return the texts in order, each with who said it: `user`, `assistant` or `system`."""
        return tuple((message.role, _text(message)) for message in self.messages)


def _text(message: Message) -> str:
    return "\n".join(part.text for part in message.parts if isinstance(part, TextPart))
