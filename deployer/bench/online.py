"""A server over HTTP, streaming: from sending the request to its last token."""

import base64
import json
import time
from dataclasses import dataclass
from typing import Any

import httpx

from deployer.bench.options import BenchOptions
from deployer.bench.samples import Sample
from deployer.bench.workload import Ask
from deployer.errors import UnavailableError

PATH = "/v1/chat/completions"


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerBench:
    """A server and what it is asked for."""

    client: httpx.AsyncClient
    model: str

    def body(self, ask: Ask, *, output_tokens: int) -> bytes:
        """Return the JSON of a request; not part of what is measured."""
        parts: list[dict[str, Any]] = [{"type": "text", "text": ask.text}]
        if ask.picture is not None:
            url = "data:image/png;base64," + base64.b64encode(ask.picture).decode()
            parts.insert(0, {"type": "image_url", "image_url": {"url": url}})
        return json.dumps(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": parts}],
                "max_tokens": output_tokens,
                "temperature": 0,
                # Not OpenAI's, but known to all servers of this kind: every token is made, and shown.
                "ignore_eos": True,
                "skip_special_tokens": False,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        ).encode()

    async def ask(self, body: bytes) -> Sample:
        """Send one request and read its stream. Raises UnavailableError where it is not answered in full."""
        start_s = time.perf_counter()
        first_s = last_s = 0.0
        tail = b""
        try:
            async with self.client.stream("POST", PATH, content=body) as reply:
                if reply.status_code != 200:
                    raise UnavailableError(f"{self.client.base_url}: {_error(await reply.aread())}")
                # Events are only looked at as bytes while the clock runs; the usage comes with the last ones.
                async for data in reply.aiter_raw():
                    now_s = time.perf_counter()
                    plain = data.replace(b'": "', b'":"')  # some servers write JSON with spaces
                    if not first_s and b'"content":"' in plain.replace(b'"content":""', b""):
                        first_s = now_s
                    if not last_s and b'"finish_reason":"' in plain:
                        last_s = now_s
                    tail = (tail + data)[-8192:]
        except httpx.HTTPError as error:
            raise UnavailableError(f"{self.client.base_url}: {error or type(error).__name__}") from error
        usage = _usage(tail)
        if not last_s:
            raise UnavailableError("a stream ended without a finish reason: the server cut it")
        details = usage.get("prompt_tokens_details") or {}
        return Sample(
            start_s=start_s,
            first_s=first_s or last_s,
            last_s=last_s,
            prompt_tokens=usage["prompt_tokens"],
            image_tokens=details.get("image_tokens", 0),
            cached_tokens=details.get("cached_tokens") or 0,
            output_tokens=usage["completion_tokens"],
        )


def http_client(url: str, options: BenchOptions) -> httpx.AsyncClient:
    """Return a client that keeps as many connections as are needed."""
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if options.api_key is not None:
        headers["authorization"] = f"Bearer {options.api_key}"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=options.timeout_s)


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
