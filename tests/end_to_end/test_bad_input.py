"""What a client can do wrong, against a real engine: each gets its answer, and the server goes on serving."""

import asyncio
import base64
import io
import random
import struct
import zlib
from collections.abc import Iterator

import httpx
import pytest
from live_server import LiveServer
from mutations import mutated, originals
from PIL import Image


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def png(size: tuple[int, int] = (40, 30)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, "green").save(data, "PNG")
    return data.getvalue()


def huge_png(side: int) -> bytes:
    """A PNG whose header promises `side` x `side` pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def animated() -> bytes:
    data = io.BytesIO()
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:])
    return data.getvalue()


def body(*urls: str, text: str = "What is it?", **fields: object) -> dict[str, object]:
    parts: list[object] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    messages = [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
    return {"messages": messages, "max_tokens": 4, **fields}


@pytest.fixture
def api(server: LiveServer) -> Iterator[httpx.Client]:
    """A client, and afterwards the proof that the server still answers."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client
        assert client.post("/v1/chat/completions", json=body(data_url(png()))).status_code == 200
    assert server.process.poll() is None


@pytest.mark.parametrize(
    ("url", "code"),
    [
        (data_url(b""), "image_empty"),
        (data_url(b"hello, no picture"), "image_format_unsupported"),
        (data_url(png()[:60]), "image_"),
        (data_url(huge_png(20_000)), "image_"),
        ("data:image/png;base64,!!!", "image_"),
        ("file:///etc/passwd", "image_file_refused"),
        ("http://127.0.0.1:9/x.png", "image_address_refused"),
        ("http://[::1]/x.png", "image_address_refused"),
        ("http://does-not-exist.invalid/x.png", "image_"),
        ("gopher://x", "image_url_invalid"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_picture_that_is_none_is_a_400_that_says_why(
    api: httpx.Client, url: str, code: str, stream: bool
) -> None:
    reply = api.post("/v1/chat/completions", json=body(data_url(png()), url, stream=stream))
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert error["code"].startswith(code)
    assert error["message"].startswith("image 2: ")


@pytest.mark.parametrize("url", ["http://8.8.8.8:99999/", "http://8.8.8.8:-1/", "http://xn--a/"])
def test_a_picture_url_that_nothing_can_connect_to_is_a_400_in_every_way_in(
    api: httpx.Client, url: str
) -> None:
    messages = body(url)["messages"]
    item = {"role": "user", "content": [{"type": "input_image", "image_url": url}]}
    asked: dict[str, dict[str, object]] = {
        "/v1/chat/completions": {"messages": messages},
        "/v1/responses": {"input": [item]},
        "/v1/responses/input_tokens": {"input": [item]},
        "/tokenize": {"messages": messages},
        "/v1/images/price": {"images": [{"url": url}]},
    }
    for path, sent in asked.items():
        reply = api.post(path, json=sent)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "image_url_invalid"), path
        assert reply.json()["error"]["message"].startswith(f"image 1: {url} is no URL: "), path


def test_damaged_pictures_are_answered_or_refused_with_a_reason(api: httpx.Client) -> None:
    """Ten thousand of them: `tests/conformance/mutated_over_http.py`."""
    dice = random.Random(3)
    files = originals(dice)
    found = set()
    for _ in range(60):
        reply = api.post("/v1/chat/completions", json=body(data_url(mutated(dice.choice(files), dice))))
        found.add(reply.status_code)
        if reply.status_code != 200:
            assert reply.json()["error"]["message"].startswith("image 1: "), reply.text
    assert found == {200, 400}


@pytest.mark.parametrize("data", [png((1, 1)), png((1, 400)), animated()])
def test_an_odd_picture_is_answered(api: httpx.Client, data: bytes) -> None:
    assert api.post("/v1/chat/completions", json=body(data_url(data))).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_an_animation_is_answered_by_its_first_frame_and_the_client_is_told(
    api: httpx.Client, stream: bool
) -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    asked = body(data_url(png()), data_url(animated(), "gif"), **options)
    reply = api.post("/v1/chat/completions", json=asked).text
    assert '"image_notes":["image 2: first of 2 frames used"]' in reply
    parts = [{"type": "input_image", "image_url": data_url(animated(), "gif")}]
    items = [{"role": "user", "content": parts}]
    response = api.post("/v1/responses", json={"input": items, "max_output_tokens": 4}).json()
    notes = response["usage"]["input_tokens_details"]["image_notes"]
    assert notes == ["image 1: first of 2 frames used"]
    assert "image_notes" not in api.post("/v1/chat/completions", json=body(data_url(png()))).text


def test_a_thousand_pictures_are_refused(api: httpx.Client) -> None:
    reply = api.post("/v1/chat/completions", json=body(*[data_url(png())] * 1000))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "too_many_images")


@pytest.mark.parametrize("text", ["<IMAGE_TOKEN> and <IMAGE_TOKEN>: which?", "<image><image>"])
def test_markers_that_are_not_as_many_as_the_pictures_are_a_400(api: httpx.Client, text: str) -> None:
    reply = api.post("/v1/chat/completions", json=body(data_url(png()), text=text))
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (400, "image_placement"), error
    assert "2 times and holds 1 image" in error["message"]


def test_a_prompt_that_is_too_long_is_told_what_costs_what(api: httpx.Client) -> None:
    reply = api.post("/v1/chat/completions", json=body(data_url(png()), text="many words " * 2000))
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")
    for part in ("2,048", "image 1 (40x30"):
        assert part in reply.json()["error"]["message"]


def test_leaving_a_stream_frees_its_place_in_the_batch(api: httpx.Client, server: LiveServer) -> None:
    long = body(text="Go on", stream=True, ignore_eos=True)
    with api.stream("POST", "/v1/chat/completions", json={**long, "max_tokens": 1500}) as reply:
        next(reply.iter_lines())
    server.wait_for("deployer_sequences_running", 0)
    server.wait_for("deployer_kv_pages_used", 0)
    assert any("client_gone" in line for line in server.lines)


async def test_of_200_at_once_each_gets_one_answer_or_a_time_to_come_back(server: LiveServer) -> None:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
        asked = body(text="Go on", ignore_eos=True)
        replies = await asyncio.gather(
            *(client.post("/v1/chat/completions", json={**asked, "max_tokens": 40}) for _ in range(200))
        )
        codes = [reply.status_code for reply in replies]
        assert set(codes) == {200, 429}
        assert codes.count(200) >= 24
        assert all(int(r.headers["retry-after"]) >= 1 for r in replies if r.status_code == 429)
        assert (await client.post("/v1/chat/completions", json=asked)).status_code == 200
