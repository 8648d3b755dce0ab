"""Messages of a checked body to the plain values that prompts are made of."""

from collections.abc import Sequence

from deployer.prompt.messages import ImagePart, Message, TextPart
from deployer.prompt.messages import Part as PromptPart
from deployer.serve import openai_types as api


def conversation(messages: Sequence[api.Message]) -> list[Message]:
    """Return the conversation; `developer` is another word for `system`."""
    return [_message(message) for message in messages]


def _message(message: api.Message) -> Message:
    role = "system" if message.role == "developer" else message.role
    if isinstance(message.content, str):
        return Message.of(role, message.content)
    return Message(role=role, parts=tuple(_part(part) for part in message.content))


def _part(part: api.TextPart | api.ImagePart) -> PromptPart:
    if isinstance(part, api.TextPart):
        return TextPart(text=part.text)
    return ImagePart(source=part.image_url.url, detail=part.image_url.detail or "auto")
