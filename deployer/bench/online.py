"""A server over HTTP, streaming: from sending the request to its last token."""

import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from deployer.bench.token_samples import TokenSample
from deployer.bench.workload import Ask
from deployer.errors import UnavailableError

TAIL_BYTES = 8192  # of a stream's end, in which its usage stands


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedServer:
    """A server that is asked."""

    url: str
    api_key: str | None
    timeout_s: float  # of one request

    def client(self) -> httpx.AsyncClient:
        """Return a client that keeps as many connections as are needed."""
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if self.api_key is not None:
            headers["authorization"] = f"Bearer {self.api_key}"
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        return httpx.AsyncClient(base_url=self.url, headers=headers, limits=limits, timeout=self.timeout_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpAsk:
    """One request, ready to be sent."""

    path: str
    body: bytes
    text_field: str  # of an event, where the text of its tokens stands


def chat_ask(model: str, ask: Ask, *, output_tokens: int) -> HttpAsk:
    """Return a chat of one message."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": ask.text}]
    if ask.picture is not None:
        url = "data:image/png;base64," + base64.b64encode(ask.picture).decode()
        parts.insert(0, {"type": "image_url", "image_url": {"url": url}})
    messages = [{"role": "user", "content": parts}]
    body = _body(model, {"messages": messages}, output_tokens=output_tokens)
    return HttpAsk(path="/v1/chat/completions", body=body, text_field="content")


def ids_ask(model: str, token_ids: Sequence[int], *, output_tokens: int) -> HttpAsk:
    """Return a prompt of token ids."""
    body = _body(model, {"prompt": list(token_ids)}, output_tokens=output_tokens)
    return HttpAsk(path="/v1/completions", body=body, text_field="text")


def _body(model: str, prompt: dict[str, Any], *, output_tokens: int) -> bytes:
    return json.dumps(
        {
            "model": model,
            **prompt,
            "max_tokens": output_tokens,
            "temperature": 0,
            # Not OpenAI's, but known to all servers of this kind: every token is made, and shown.
            "ignore_eos": True,
            "skip_special_tokens": False,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()


async def ask_server(client: httpx.AsyncClient, ask: HttpAsk) -> TokenSample:
    """Send one request and read its stream. Raises UnavailableError where it is not answered in full.

    A server says in its usage how many tokens there were, not in which events: each event with text counts
    as the same share of them.
    """
    start_s = time.perf_counter()
    field = f'"{ask.text_field}":"'.encode()
    empty = field + b'"'
    texts: list[tuple[float, int]] = []  # when so many events with text came
    last_s, tail = 0.0, b""
    try:
        async with client.stream("POST", ask.path, content=ask.body) as reply:
            if reply.status_code != 200:
                raise UnavailableError(f"{client.base_url}: {_error(await reply.aread())}")
            # Events are only looked at as bytes while the clock runs; the usage comes with the last ones.
            async for data in reply.aiter_raw():
                now_s = time.perf_counter()
                plain = data.replace(b'": "', b'":"')  # some servers write JSON with spaces
                found = plain.count(field) - plain.count(empty)
                if found:
                    texts.append((now_s, found))
                if not last_s and b'"finish_reason":"' in plain:
                    last_s = now_s
                tail = (tail + data)[-TAIL_BYTES:]
    except httpx.HTTPError as error:
        raise UnavailableError(f"{client.base_url}: {error or type(error).__name__}") from error
    usage = _usage(tail)
    if not last_s:
        raise UnavailableError("a stream ended without a finish reason: the server cut it")
    details = usage.get("prompt_tokens_details") or {}
    return TokenSample(
        start_s=start_s,
        arrivals=shared_out(usage["completion_tokens"], texts or [(last_s, 1)]),
        prompt_tokens=usage["prompt_tokens"],
        image_tokens=details.get("image_tokens", 0),
        cached_tokens=details.get("cached_tokens") or 0,
    )


def shared_out(tokens: int, texts: Sequence[tuple[float, int]]) -> tuple[tuple[float, int], ...]:
    """Return when so many of all tokens came, the same share with each event."""
    events, given, seen = sum(count for _, count in texts), 0, 0
    arrivals = []
    for when_s, count in texts:
        seen += count
        arrivals.append((when_s, tokens * seen // events - given))
        given = tokens * seen // events
    return tuple(arrivals)


async def served_model(client: httpx.AsyncClient) -> str:
    """Return the first model that the server lists. Raises UnavailableError."""
    try:
        reply = await client.get("/v1/models")
        reply.raise_for_status()
        return str(reply.json()["data"][0]["id"])
    except (httpx.HTTPError, ValueError, LookupError) as error:
        raise UnavailableError(
            f"bench.url={client.base_url}: no model listed in /v1/models ({error}); is this an OpenAI server?"
        ) from error


def _usage(tail: bytes) -> dict[str, Any]:
    for event in reversed(tail.split(b"\n\n")):
        data = event.strip().removeprefix(b"data: ")
        if data.startswith(b"{"):
            chunk = json.loads(data)
            if "error" in chunk:
                raise UnavailableError(f"a request of the benchmark failed: {chunk['error']['message']}")
            if chunk.get("usage"):
                usage: dict[str, Any] = chunk["usage"]
                return usage
    raise UnavailableError(
        "a stream ended without its usage chunk: the server cut it or has no `stream_options`"
    )


def _error(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return body.decode(errors="replace")[:200]
