import pytest
from plan_cases import case

from engines.memory.kv_bytes import (
    dtype_rule,
    head_dim_rule,
    kv_heads_per_rank,
    kv_token_bytes,
    page_bytes,
    pages_for,
    pages_that_fit,
)
from engines.options import KvFormat

DECODER = case().spec.decoder  # 32 layers, 8 KV heads of 128


@pytest.mark.parametrize(
    ("form", "num_bytes"),
    [
        ("none", 131_072),
        ("bf12", 98_304 + 1024),
        ("fp8", 65_536 + 1024),
        ("int8", 65_536 + 2048),
        ("int4", 32_768 + 2048),
    ],
)
def test_a_token_takes_its_bits_and_its_scales(form: KvFormat, num_bytes: int) -> None:
    assert kv_token_bytes(DECODER, format=form, dtype_bytes=2, tp=1) == num_bytes


@pytest.mark.parametrize(("tp", "heads"), [(1, 8), (2, 4), (8, 1), (16, 1)])
def test_ranks_share_the_heads_until_each_has_one(tp: int, heads: int) -> None:
    assert kv_heads_per_rank(DECODER, tp=tp) == heads
    assert kv_token_bytes(DECODER, format="none", dtype_bytes=2, tp=tp) == 2 * 32 * heads * 128 * 2


def test_a_page_is_its_tokens() -> None:
    assert page_bytes(DECODER, format="none", dtype_bytes=4, page_tokens=16, tp=1) == 16 * 262_144


@pytest.mark.parametrize(("tokens", "pages"), [(0, 0), (1, 1), (64, 1), (65, 2)])
def test_a_sequence_takes_whole_pages(tokens: int, pages: int) -> None:
    assert pages_for(tokens, page_tokens=64) == pages


@pytest.mark.parametrize(
    ("free", "memory", "pages"),
    [(1000, 0.5, 5), (1000, 550.0, 5), (1000, 5000.0, 10), (-1, 0.9, 0), (99, 0.9, 0)],
)
def test_a_share_or_bytes_give_pages_but_never_more_than_is_free(
    free: int, memory: float, pages: int
) -> None:
    assert pages_that_fit(free, memory=memory, page_bytes=100) == pages


@pytest.mark.parametrize(
    ("head_dim", "refused"),
    [
        (96, []),
        (128, []),
        (256, []),
        (80, ["bf12", "int4"]),
        (112, ["bf12", "int4"]),
        (72, ["bf12", "fp8", "int8", "int4"]),
    ],
)
def test_a_row_of_codes_must_be_whole_pieces_of_16_bytes(head_dim: int, refused: list[str]) -> None:
    forms: tuple[KvFormat, ...] = ("none", "bf12", "fp8", "int8", "int4")
    assert [form for form in forms if head_dim_rule(head_dim, form) is not None] == refused


def test_12_bits_keep_bfloat16_and_what_a_cpu_computes_in() -> None:
    assert dtype_rule("float16", "bf12") is not None
    assert dtype_rule("float16", "int8") is None
    assert dtype_rule("float32", "bf12") is None
    assert dtype_rule("bfloat16", "bf12") is None
