"""/v1/images/price, and the prices behind it."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace

import httpx
import pytest
from plan_cases import case, pricing_of

from deployer.serve.app import create_app
from deployer.serve.pricing import hardware_of
from deployer.serve.service import Service
from engines.vision.parts import ImagePlan


@pytest.fixture
async def priced(serve: Callable[..., Service]) -> AsyncGenerator[httpx.AsyncClient, None]:
    transport = httpx.ASGITransport(create_app(replace(serve(), pricing=pricing_of(case()))))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        yield api


async def test_a_picture_and_a_size_are_priced_and_added_up(priced: httpx.AsyncClient) -> None:
    body = {"images": [{"url": "data:image/png;base64,AAAA"}, {"width": 640, "height": 480}]}
    found = (await priced.post("/v1/images/price", json=body)).json()
    first, second = found["images"]
    assert (second["width"], second["height"]) == (640, 480)
    assert (first["tiles"], first["tokens"], first["pixels"]) == (3, 12, [[3, 28, 28, 3]])
    # 2 (K and V) x 32 layers x 8 heads x 128 numbers of 2 bytes, 12 tokens
    assert first["kv_bytes"] == 12 * 2 * 32 * 8 * 128 * 2
    assert first["encode_ms"] > 0 and first["prefill_ms"] > 0
    assert found["total"]["tokens"] == 24
    assert found["total"]["encode_ms"] == pytest.approx(2 * first["encode_ms"])
    assert found["basis"] == {"hardware": "h200", "figures": "measured", "rates": "limit"}


async def test_an_unknown_device_gives_tokens_and_no_times(api: httpx.AsyncClient) -> None:
    found = (await api.post("/v1/images/price", json={"images": [{"width": 1, "height": 1}]})).json()
    assert found["total"] == {
        "tiles": 3,
        "tokens": 12,
        "kv_bytes": None,
        "encode_ms": None,
        "prefill_ms": None,
    }
    assert found["basis"] is None


async def test_a_cpu_that_nobody_measured_gives_no_times(serve: Callable[..., Service]) -> None:
    pricing = pricing_of(case(device="cpu"))
    transport = httpx.ASGITransport(create_app(replace(serve(), pricing=pricing)))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        found = (await api.post("/v1/images/price", json={"images": [{"width": 1, "height": 1}]})).json()
    assert (found["total"]["encode_ms"], found["total"]["prefill_ms"]) == (None, None)
    assert found["total"]["kv_bytes"] > 0
    assert found["basis"] == {"hardware": "cpu", "figures": "datasheet", "rates": None}


@pytest.mark.parametrize("image", [{}, {"width": 3}, {"url": "data:,", "width": 3, "height": 3}])
async def test_a_picture_is_a_url_or_a_whole_size(api: httpx.AsyncClient, image: dict[str, object]) -> None:
    reply = await api.post("/v1/images/price", json={"images": [image]})
    assert reply.status_code == 400
    assert "must hold `url`, or `width` and `height`" in reply.json()["error"]["message"]


def test_more_tiles_take_longer() -> None:
    one, seven = (ImagePlan(width=448, height=448, grid=(n, 1), num_tiles=n) for n in (1, 7))
    prices = pricing_of(case())
    few, many = prices.encode_ms(one), prices.encode_ms(seven)
    assert few is not None and many is not None
    assert 6 < many / few < 8


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("cpu (8 threads)", "cpu"),
        ("cuda:0 (NVIDIA H200)", "h200"),
        ("cuda:0 (NVIDIA A100-SXM4-80GB)", "a100"),
        ("cuda:0 (NVIDIA A100-SXM4-40GB)", "a100_40g"),
        ("cuda:0 (NVIDIA GeForce RTX 4090)", "rtx4090"),
        ("cuda:0 (NVIDIA GeForce GTX 1060)", None),
    ],
)
def test_hardware_is_told_by_the_device_s_name(device: str, name: str | None) -> None:
    found = hardware_of(device)
    assert (None if found is None else found.name) == name
