"""One turn of the Gradio chat: what its history says as messages, asked of our own HTTP API. Knows no Gradio.

`gradio_page.py` lays the chat out and calls this in a thread.
"""

import ssl
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from deployer.chat.options import ChatOptions
from deployer.chat.remote import RemoteModel
from deployer.prompt.messages import ImagePart, Message, Part, TextPart
from engines.errors import RequestError

# The server is of this process: it answers or refuses, however long its queue is.
SILENCE_S = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnApi:
    """The API beside the page."""

    url: str
    model_name: str
    trusted: ssl.SSLContext | None  # what its certificate is held to; None: plain HTTP

    def answer(
        self, question: Mapping[str, Any], history: Sequence[Mapping[str, Any]], *, api_key: str
    ) -> Generator[str, None, None]:
        """Yield the answer as far as it is known, longer each time; closing the generator ends it.

        `api_key`: what the visitor typed, "" for none: the page holds no key of its own. Raises RequestError
        or UnavailableError.
        """
        options = ChatOptions(
            url=self.url, model_name=self.model_name, api_key=api_key.strip() or None, timeout_s=SILENCE_S
        )
        with closing(RemoteModel(self.url, options, trusted=self.trusted)) as model:
            text = ""
            with closing(model.answer(messages_of(question, history, model))) as pieces:
                for piece in pieces:
                    text += piece
                    yield text


def messages_of(
    question: Mapping[str, Any], history: Sequence[Mapping[str, Any]], model: RemoteModel
) -> list[Message]:
    """Return the conversation, the question `{"text", "files"}` last.

    A turn of the history is `{"role", "content": [parts]}`; turns of one role in a row are one message.
    Raises RequestError for a part that is neither text nor a file, and for a file that cannot be read.
    """
    asked = [{"type": "file", "file": {"path": file}} for file in question["files"]]
    if question["text"]:
        asked.append({"type": "text", "text": question["text"]})
    messages: list[Message] = []
    for turn in (*history, {"role": "user", "content": asked}):
        parts = tuple(_part(part, model) for part in turn["content"])
        if messages and messages[-1].role == turn["role"]:  # one that was refused and asked again
            parts = (*messages.pop().parts, *parts)
        messages.append(Message(role=turn["role"], parts=parts))
    return messages


def _part(part: Mapping[str, Any], model: RemoteModel) -> Part:
    if part["type"] == "text":
        return TextPart(text=part["text"])
    if part["type"] == "file":
        return ImagePart(source=model.picture(part["file"]["path"]))
    raise RequestError(f"a turn of the chat holds a `{part['type']}`: only text and pictures are sent")
