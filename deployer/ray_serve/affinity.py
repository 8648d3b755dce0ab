"""Which replica a request should go to: the one that has its pictures, or how its prompt begins.

A request's key is what requests of one conversation, or about one picture, have in common; replicas are
ranked for it by rendezvous hashing, so that one that goes or comes moves only the keys of its own.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

PREFIX_CHARACTERS = 1024  # of a text: about what several pages of the KV cache hold


def affinity_key(body: bytes) -> bytes | None:
    """Return the key of a request; None: it goes wherever there is least to do.

    The first picture or video decides where there is one (it costs most to read anew), else the system text
    and the first text of the user.
    """
    try:
        asked = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None  # a replica says what is wrong with it
    if not isinstance(asked, dict):
        return None
    texts: list[str] = []
    for kind, text in _pieces(asked):
        if kind == "picture":
            return _digest("picture", text)
        texts.append(text)
    return _digest("text", "\0".join(texts)[:PREFIX_CHARACTERS]) if texts else None


def ranked(key: bytes, replicas: Sequence[str]) -> list[str]:
    """Return the replicas from the key's own to the last that it falls back to."""
    return sorted(replicas, key=lambda name: hashlib.blake2b(name.encode(), key=key, digest_size=8).digest())


def _pieces(asked: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield pictures and texts in order, up to the first text of the user."""
    shown = asked.get("image_data")  # of /generate
    for one in shown if isinstance(shown, list) else [shown]:
        yield from (("picture", address) for address in _addresses(one))
    for field in ("instructions", "system", "prompt", "input"):
        if isinstance(asked.get(field), str):
            yield "text", asked[field]
    messages = asked.get("messages") or asked.get("input")
    if not isinstance(messages, list):
        return
    pictures = [picture for message in messages for picture in _pictures(message)]
    yield from (("picture", picture) for picture in pictures[:1])
    for message in messages:
        yield from (("text", text) for text in _texts(message))
        if isinstance(message, dict) and message.get("role") == "user":
            return


def _pictures(message: Any) -> Iterator[str]:
    for part in _parts(message):
        for field in ("image_url", "video_url", "source"):  # OpenAI's, Anthropic's
            yield from _addresses(part.get(field))


def _addresses(found: Any) -> Iterator[str]:
    """Yield where a picture is, or itself."""
    address = (found.get("url") or found.get("data")) if isinstance(found, dict) else found
    if isinstance(address, str):
        yield address


def _texts(message: Any) -> Iterator[str]:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        yield content
    yield from (part["text"] for part in _parts(message) if isinstance(part.get("text"), str))


def _parts(message: Any) -> Iterator[dict[str, Any]]:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        yield from (part for part in content if isinstance(part, dict))


def _digest(kind: str, text: str) -> bytes:
    return hashlib.blake2b(f"{kind}\0{text}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
