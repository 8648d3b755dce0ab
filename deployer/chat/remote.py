"""A running OpenAI server as a partner: ours, or any other."""

import base64
import json
import ssl
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from deployer.chat.options import ChatOptions
from deployer.errors import UnavailableError
from deployer.offline.prompt_forms import image_source
from deployer.prompt.image_errors import ImageError
from deployer.prompt.messages import ImagePart, ImageSource, Message, Part, TextPart
from engines.errors import RequestError


class RemoteModel:
    """A model behind `url`; the first that the server lists where none is named."""

    def __init__(self, url: str, options: ChatOptions, *, trusted: ssl.SSLContext | None = None) -> None:
        """Find the server. Raises UnavailableError.

        `trusted`: what its certificate is held to; None: the authorities that everybody trusts.
        """
        self._url = url.rstrip("/").removesuffix("/v1")
        headers = {} if options.api_key is None else {"authorization": f"Bearer {options.api_key}"}
        self._client = httpx.Client(
            base_url=self._url, headers=headers, timeout=options.timeout_s, verify=trusted or True
        )
        try:
            self._model = options.model_name or self._first_model()
        except BaseException:
            self._client.close()
            raise

    @property
    def name(self) -> str:
        """The model and its address."""
        return f"{self._model} at {self._url}"

    def picture(self, place: str) -> ImageSource:
        """Return a file's bytes; a URL is left to the server. Raises ImageError."""
        source = image_source(place)
        if not isinstance(source, Path):
            return source
        try:
            return source.read_bytes()
        except OSError as error:
            message = f"{source} cannot be read: {error.strerror}"
            raise ImageError(message, code="image_file_refused", index=0) from error

    def answer(self, messages: Sequence[Message]) -> Generator[str, None, None]:
        """Yield the answer in pieces. Raises RequestError for a refusal, UnavailableError for silence."""
        body = {
            "model": self._model,
            "messages": [{"role": message.role, "content": _content(message)} for message in messages],
            "stream": True,
        }
        try:
            with self._client.stream("POST", "/v1/chat/completions", json=body) as reply:
                if reply.status_code != 200:
                    raise RequestError(_fault(reply.read(), reply.status_code))
                for line in reply.iter_lines():
                    yield from _texts(line)
        except httpx.HTTPError as error:
            raise UnavailableError(f"{self._url}: {error or type(error).__name__}") from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _first_model(self) -> str:
        try:
            reply = self._client.get("/v1/models")
            if reply.status_code != 200:
                raise UnavailableError(f"chat.url={self._url}: {_fault(reply.content, reply.status_code)}")
            return str(reply.json()["data"][0]["id"])
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise UnavailableError(
                f"chat.url={self._url}: no model listed in /v1/models ({error}); is this an OpenAI server?"
            ) from error


def _content(message: Message) -> str | list[dict[str, Any]]:
    if all(isinstance(part, TextPart) for part in message.parts):
        return "\n".join(part.text for part in message.parts if isinstance(part, TextPart))
    return [_part(part) for part in message.parts]


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    assert isinstance(part, ImagePart), "the terminal has texts and pictures"
    asked = {"detail": part.fineness.detail, **part.fineness.bounds()}
    return {"type": "image_url", "image_url": {"url": _url(part), **asked}}


def _url(part: ImagePart) -> str:
    source = part.source
    assert not isinstance(source, Path | Image.Image), "`picture` gives URLs and bytes"
    if isinstance(source, str):
        return source
    # The type is told by the bytes themselves; servers look at them too.
    return "data:application/octet-stream;base64," + base64.b64encode(source).decode()


def _texts(line: str) -> Generator[str, None, None]:
    """Yield the text of one line of a stream. Raises RequestError for an error in it."""
    data = line.removeprefix("data:").strip()
    if not line.startswith("data:") or data == "[DONE]":
        return
    try:
        event = json.loads(data)
    except ValueError as error:
        raise UnavailableError(f"the server's stream is not what OpenAI's is: `{data[:60]}`") from error
    if "error" in event:
        raise RequestError(str(event["error"].get("message", event["error"])))
    for choice in event.get("choices", ()):
        text = choice.get("delta", {}).get("content")
        if text:
            yield str(text)


def _fault(body: bytes, status: int) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return f"HTTP {status}: {body.decode(errors='replace')[:200]}"
