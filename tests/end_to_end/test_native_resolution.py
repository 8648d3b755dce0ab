"""A Qwen2-VL checkpoint behind the server: its own template, pictures of any size, three-axis positions."""

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from live_server import LiveServer, live_server
from PIL import Image

FIXTURES = Path(__file__).parents[1] / "fixtures"
SPECIAL = {602: "<|vision_start|>", 603: "<|vision_end|>", 605: "<|image_pad|>", 3: "<|im_start|>"}


def write_checkpoint(folder: Path) -> Path:
    """Write the golden checkpoint with a byte-level vocabulary and the release's template."""
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(FIXTURES / "qwen2_vl" / "qwen2_vl" / name, folder)
    tokenizer = json.loads((FIXTURES / "tokenizers" / "byte_level" / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    for token_id in range(len(vocab), 608):
        vocab[SPECIAL.get(token_id, f"filler {token_id}")] = token_id
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer["added_tokens"] += [
        {"id": token_id, "content": text, **plain} for token_id, text in SPECIAL.items() if token_id > 600
    ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    template = json.loads((FIXTURES / "prompts" / "from_checkpoint.json").read_text())["qwen2_vl"]
    names = {"bos_token": None, "eos_token": "</s>", "chat_template": template["chat_template"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = write_checkpoint(tmp_path_factory.mktemp("qwen2_vl") / "model")
    words = (
        "+model=local", f"model.path={folder}", "engine=pytorch", "engine.device_type=cpu",
        "engine.num_gpu_blocks=64", "engine.cache_block_seq_len=16", "engine.max_batch_size=4",
        "engine.session_len=512", "server.model_name=native",
    )  # fmt: skip
    with live_server(*words) as running:
        yield running


def ask(server: LiveServer, *sizes: tuple[int, int], **options: Any) -> httpx.Response:
    content: list[dict[str, Any]] = []
    for seed, (width, height) in enumerate(sizes):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        content.append({"type": "image_url", "image_url": {"url": url, **options}})
    content.append({"type": "text", "text": "hi"})
    body = {
        "model": "native",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 6,
        "temperature": 0,
    }
    return httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)


def test_each_picture_costs_its_cells_and_a_second_time_nothing(server: LiveServer) -> None:
    tokens = {
        sizes: ask(server, *sizes).json()["usage"]["prompt_tokens"]
        for sizes in ((), ((112, 56),), ((112, 56), (56, 140)))
    }
    tags = 2  # vision_start and vision_end around each
    assert tokens[((112, 56),)] - tokens[()] == 8 + tags
    assert tokens[((112, 56), (56, 140))] - tokens[()] == 8 + 10 + 2 * tags
    first, again = ask(server, (84, 140)).json(), ask(server, (84, 140)).json()
    assert first["choices"] == again["choices"]
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_a_picture_that_does_not_fit_is_refused_with_its_cost(server: LiveServer) -> None:
    answer = ask(server, (2800, 280))
    assert answer.status_code == 400
    assert "image 1 (2800x280, 1 tiles) 1,000" in answer.json()["error"]["message"]


def test_a_picture_is_resized_to_the_pixels_that_its_request_allows(server: LiveServer) -> None:
    def tokens(**options: Any) -> int:
        details = ask(server, (112, 112), **options).json()["usage"]["prompt_tokens_details"]
        return int(details["image_tokens"])

    assert tokens() == 16
    assert tokens(max_pixels=4 * 28 * 28) == 4
    assert tokens(min_pixels=36 * 28 * 28) == 36
    answer = ask(server, (112, 112), max_dynamic_patch=3)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "image_option_refused")
    assert (
        "`max_dynamic_patch`: this model's pictures have no such option, but `detail`, `max_pixels`, "
        in (answer.json()["error"]["message"])
    )


def test_a_picture_far_too_long_is_refused(server: LiveServer) -> None:
    answer = ask(server, (2100, 10))
    assert answer.status_code == 400
    assert "at most 200 times the shorter" in answer.json()["error"]["message"]
