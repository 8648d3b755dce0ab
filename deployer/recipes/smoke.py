"""One greedy request to the server that a recipe starts: its answer, and what it took.

A red circle on white goes with the question where the model sees. The first request warms up; of the rest the
fastest counts, as a busy machine only ever adds time.
"""

import asyncio
import base64
import io
import json
import time
from dataclasses import dataclass
from typing import Any

import httpx
from PIL import Image, ImageDraw

from deployer.config.devices import choose_engine
from deployer.config.schema import DeployConfig
from deployer.errors import LockError
from deployer.generation.open_model import check_family, open_model
from deployer.recipes.lock_file import Smoke
from deployer.recipes.machine import machine_name
from deployer.serve.own_server import own_server

QUESTION = "What colour is the circle?"
TEXT_QUESTION = "What is the capital of France?"
MAX_TOKENS = 32
MEASURED = 5
SIDE = 448  # pixels
TIMEOUT_S = 600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """One answer with its times."""

    text: str
    first_token_ms: float
    token_ms: float


def run_smoke(config: DeployConfig) -> Smoke:
    """Serve the deployment for a moment and ask it.

    Raises UnavailableError where it can't run here, LockError where it runs and does not answer, or answers
    one greedy question in two ways.
    """
    check_family(config.model)
    choice = choose_engine(config.engine)
    picture = open_model(config.model, tower=config.vision.name).spec.vision is not None
    answers = asyncio.run(_ask(config, picture=picture))
    texts = {answer.text for answer in answers}
    if len(texts) > 1:
        raise LockError([f"smoke: one greedy question got {len(texts)} answers: {sorted(texts)}"])
    return Smoke(
        question=QUESTION if picture else TEXT_QUESTION,
        picture=picture,
        answer=answers[0].text,
        engine=choice.kind,
        device=choice.device,
        dtype=config.engine.dtype,
        machine=machine_name(),
        figures={
            "first_token_ms": round(min(answer.first_token_ms for answer in answers), 2),
            "token_ms": round(min(answer.token_ms for answer in answers), 3),
        },
    )


async def _ask(config: DeployConfig, *, picture: bool) -> list[Timed]:
    body = json.dumps(_body(picture=picture)).encode()
    async with (
        own_server(config) as url,
        httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as client,
    ):
        return [await _one(client, body) for _ in range(1 + MEASURED)][1:]


async def _one(client: httpx.AsyncClient, body: bytes) -> Timed:
    start_s = time.perf_counter()
    first_s = last_s = start_s
    texts: list[str] = []
    tokens = 0
    headers = {"content-type": "application/json"}
    async with client.stream("POST", "/v1/chat/completions", content=body, headers=headers) as reply:
        if reply.status_code != 200:
            raise LockError([f"smoke: the request was refused: {(await reply.aread()).decode()[:200]}"])
        async for line in reply.aiter_lines():
            event = _event(line)
            if "error" in event:
                raise LockError([f"smoke: the request failed: {event['error']['message']}"])
            text = "".join(choice["delta"].get("content") or "" for choice in event.get("choices", ()))
            if text:
                last_s = time.perf_counter()
                first_s = last_s if not texts else first_s
                texts.append(text)
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    return Timed(
        text="".join(texts),
        first_token_ms=(first_s - start_s) * 1e3,
        token_ms=(last_s - first_s) / max(tokens - 1, 1) * 1e3,
    )


def _event(line: str) -> dict[str, Any]:
    data = line.removeprefix("data: ").strip()
    if not data.startswith("{"):
        return {}
    event: dict[str, Any] = json.loads(data)
    return event


def _body(*, picture: bool) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": QUESTION if picture else TEXT_QUESTION}]
    if picture:
        parts.insert(0, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_circle()}"}})
    return {
        "messages": [{"role": "user", "content": parts}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _circle() -> str:
    image = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(image).ellipse((SIDE // 4, SIDE // 4, SIDE * 3 // 4, SIDE * 3 // 4), fill="red")
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
