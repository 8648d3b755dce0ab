from dataclasses import replace
from typing import Any

import pytest
from tiny_engine import SPEC, options

from engines.errors import DeviceError, EngineError
from engines.memory.kv_plan import KvPlan, plan_kv
from engines.spec import DecoderSpec, RopeSpec

MIB = 1 << 20
PAGE = 2048  # 2 * 2 layers * 2 heads * 8 tokens * 8 wide * 4 bytes


def plan(free_bytes: int = 10 * MIB, *, decoder: DecoderSpec = SPEC.decoder, **changes: Any) -> KvPlan:
    return plan_kv(decoder, options(**changes), itemsize=4, free_bytes=free_bytes)


def test_a_fraction_is_of_what_is_free() -> None:
    assert plan(memory=0.05) == KvPlan(num_pages=256, page_bytes=PAGE, session_len=256)


def test_one_or_more_is_bytes() -> None:
    assert plan(memory=100 * PAGE + 5.0).num_pages == 100


def test_a_fraction_stops_where_more_pages_would_be_of_no_use() -> None:
    assert plan(1 << 40, memory=0.9).num_pages == 8 * 256 // 8


def test_num_gpu_blocks_overrides_the_fraction() -> None:
    assert plan(memory=0.9, num_pages=33).num_pages == 33


def test_cache_block_seq_len_sets_the_size_of_a_page() -> None:
    assert plan(page_tokens=16, num_pages=20).page_bytes == 2 * PAGE


def test_session_len_is_what_the_model_and_the_cache_allow() -> None:
    assert plan(num_pages=1000).session_len == 256
    assert plan(num_pages=3).session_len == 24
    assert plan(num_pages=1000, session_len=100).session_len == 100


def test_a_session_len_that_was_asked_for_is_never_lowered() -> None:
    with pytest.raises(DeviceError) as caught:
        plan(num_pages=3, session_len=100)
    assert "for one sequence of 100 tokens (13 pages of 2048 bytes)" in str(caught.value)
    assert str(caught.value).endswith(
        "lower engine.session_len, or raise engine.num_gpu_blocks=3 or leave it null"
    )
    with pytest.raises(DeviceError, match=r"lower engine\.session_len .*raise engine\.cache_max_entry_count"):
        plan(memory=0.0001, session_len=100)


def test_a_session_len_beyond_the_model_is_refused() -> None:
    with pytest.raises(EngineError, match=r"engine\.session_len=300: the model goes to 256 tokens"):
        plan(session_len=300)


def test_dynamic_rope_takes_longer_sequences_when_they_are_asked_for() -> None:
    rope = RopeSpec(theta=1e4, kind="dynamic", factor=2.0, max_positions=256)
    decoder = replace(SPEC.decoder, rope=rope)
    assert plan(decoder=decoder, num_pages=1000, session_len=512).session_len == 512
    assert plan(decoder=decoder, num_pages=1000).session_len == 256


@pytest.mark.parametrize(
    "changes, messages",
    [
        ({"memory": 0.0001}, ["KV cache needs 0.00 MiB for one sequence of 8 tokens"]),
        (
            {"memory": float(20 * MIB)},
            ["engine.cache_max_entry_count=20971520 (bytes, 20.00 MiB)", "10.00 MiB are free"],
        ),
        ({"num_pages": 10_000}, ["engine.num_gpu_blocks=10000", "need 19.53 MiB", "10.00 MiB are free"]),
    ],
)
def test_too_little_memory_is_told_with_its_numbers(changes: dict[str, Any], messages: list[str]) -> None:
    with pytest.raises(DeviceError) as caught:
        plan(**changes)
    assert all(message in str(caught.value) for message in messages)


def test_no_free_memory_at_all_is_told() -> None:
    with pytest.raises(DeviceError, match=r"it gets 0\.00 MiB"):
        plan(-5 * MIB, memory=0.5)
