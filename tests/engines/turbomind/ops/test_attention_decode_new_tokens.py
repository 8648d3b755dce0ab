"""Decode attention that rotates and stores the newest tokens itself, and sums in clusters of blocks."""

from typing import get_args

import pytest
import torch
from paged_attention import make_batch, make_pages, plain_attention, quantized, relative_error

from engines.errors import KernelError
from engines.memory.kv_layer import KvLayer
from engines.options import KvFormat
from engines.turbomind.ops.attention_decode import NewTokens, attention_decode, takes_new_tokens
from engines.turbomind.ops.decode_shape import DecodeShape, shared_bytes
from engines.turbomind.ops.rope import rope_store_kv

BF16, FP16 = torch.bfloat16, torch.float16
TOLERANCE = {BF16: 4e-3}  # inputs are exact; probabilities and result are rounded once each: 2^-9 relative

# format; dtype, query heads, KV heads, head, rotated pairs, page, window, lengths: first tokens, tiles
_FIRST = (BF16, 8, 2, 64, 32, 16, None, [1, 5, 0, 130, 64, 65, 200, 17])
_PARTIAL = (BF16, 3, 3, 128, 32, 64, None, [33, 0, 128, 129])  # the rest of a head passes
NEW: list[tuple[KvFormat, tuple]] = [
    *((format, _FIRST) for format in get_args(KvFormat)),
    ("int8", (FP16, 4, 2, 128, 64, 32, None, [300, 17, 33])),
    ("none", _PARTIAL),
    ("fp8", _PARTIAL),
    ("bf12", _PARTIAL),
    ("bf12", (BF16, 3, 3, 96, 48, 16, None, [33, 100])),
    ("int4", (BF16, 7, 1, 64, 32, 16, 70, [500, 3, 70, 71])),
    ("int8", (BF16, 16, 1, 64, 32, 16, None, [100, 1])),
    ("none", (BF16, 3, 3, 96, 48, 16, None, [33, 100])),
    ("none", (FP16, 4, 4, 80, 40, 16, None, [20])),
]
NEW_MODELS = [
    (BF16, 32, 8, 128, 64, 64, None, [1024] * 32 + [1, 4097]),
    (BF16, 32, 8, 128, 64, 64, None, [1088]),
    (BF16, 32, 8, 128, 64, 64, None, [1088] * 8),
    (BF16, 32, 8, 128, 64, 64, None, [1030 + 9 * i for i in range(16)]),
    (BF16, 32, 8, 128, 64, 64, None, [601 * i % 1200 for i in range(16)]),
    (BF16, 32, 8, 128, 64, 64, None, [1088] * 32),
    (FP16, 32, 32, 128, 32, 64, 2047, [3000, 100, 2047]),
    (BF16, 14, 2, 64, 32, 128, None, [77 * i % 900 + 1 for i in range(300)]),
    (BF16, 28, 4, 128, 64, 16, None, list(range(600))),
]


def check_new_tokens(gpu, case, format: KvFormat, shape: DecodeShape | None = None) -> None:
    """One kernel leaves the bits that two leave: in the result and in the pages."""
    dtype, heads, kv_heads, dim, pairs, page_tokens, window, lengths = case
    batch, num_pages = make_batch([1] * len(lengths), lengths, page_tokens=page_tokens, device=gpu.device)
    slots = batch.slots_T.masked_fill(batch.kv_lens_B == 0, -1)
    kv = make_pages(batch, num_pages, num_kv_heads=kv_heads, page_tokens=page_tokens, dim=dim, dtype=dtype)
    before = kv if format == "none" else quantized(kv, format)[0]
    taken = slots[slots >= 0]
    for pages in (x for pair in before.pages for x in pair if x is not None):
        # What an earlier owner left in the newest tokens' places must not matter.
        pages[taken // page_tokens, :, taken % page_tokens] = 255 if pages.dtype == torch.uint8 else torch.nan
    layers = (before, copied(before))
    qkv = 2 * torch.randn(len(lengths), heads + 2 * kv_heads, dim, dtype=dtype, device=gpu.device)
    q, k, v = qkv.split((heads, kv_heads, kv_heads), dim=1)
    angles = torch.randn(len(lengths), pairs, device=gpu.device)
    tables, how = (angles.cos(), angles.sin()), {"scale": dim**-0.5, "window": window, "shape": shape}
    where = (batch.pages_BP, batch.kv_lens_B)
    rotated = rope_store_kv(gpu, q, k, v, *tables, layers[0], slots)
    wanted = attention_decode(gpu, rotated, layers[0], *where, **how)
    new = NewTokens(k_BKD=k, v_BKD=v, cos_BR=tables[0], sin_BR=tables[1], slots_B=slots)
    got = attention_decode(gpu, q, layers[1], *where, new=new, **how)
    assert torch.isfinite(wanted).all()
    assert torch.equal(got, wanted)
    for pair, wanted_pair in zip(layers[1].pages, layers[0].pages, strict=True):
        for pages, wanted_pages in zip(pair, wanted_pair, strict=True):
            if pages is not None:
                assert torch.equal(pages.view(torch.uint8), wanted_pages.view(torch.uint8))


# blocks of a cluster, multiprocessors; lengths: a segment each, of several tiles too; segments that clusters
# share, more of them
@pytest.mark.parametrize("format", ["none", "bf12", "int8"])
@pytest.mark.parametrize(
    ("cluster", "num_sms", "lengths"),
    [
        (2, 16, [60, 1, 0, 97]),
        (2, 16, [200, 225, 195]),
        (1, 6, [200, 225, 250]),
        (1, 6, [100, 0, 130]),
        (4, 8, [700]),
        (2, 9, [700, 1, 0]),
        (2, 4, [129, 64, 300]),
    ],
)
def test_blocks_of_a_cluster_sum_a_segment_side_by_side(
    gpu, monkeypatch: pytest.MonkeyPatch, format: KvFormat, cluster: int, num_sms: int, lengths: list[int]
) -> None:
    monkeypatch.setattr(gpu, "num_sms", num_sms)
    monkeypatch.setattr(gpu, "plans", {})  # those of the same operands on the whole GPU
    batch, num_pages = make_batch([1] * len(lengths), lengths, page_tokens=16, device=gpu.device)
    kv = make_pages(batch, num_pages, num_kv_heads=2, page_tokens=16, dim=64, dtype=BF16)
    stored, numbers = (kv, kv) if format == "none" else quantized(kv, format)
    shape = cluster_shape(cluster, group=3, format=format)
    q = torch.randn(len(lengths), 6, 64, dtype=BF16, device=gpu.device)
    how = {"scale": 0.125, "window": None}
    got = attention_decode(gpu, q, stored, batch.pages_BP, batch.kv_lens_B, shape=shape, **how)
    again = attention_decode(gpu, q, stored, batch.pages_BP, batch.kv_lens_B, shape=shape, **how)
    assert torch.equal(got, again)  # the scratch memory is left as it was found
    assert relative_error(got, plain_attention(q, numbers, batch, **how)) < TOLERANCE[BF16]


# blocks of a cluster, multiprocessors
@pytest.mark.parametrize(
    ("cluster", "num_sms", "lengths"),
    [
        (2, 12, [64, 1, 0]),
        (2, 12, [300, 17, 33]),
        (2, 12, [200, 225, 193]),
        (1, 6, [100, 0, 130]),
        (1, 6, [200, 225, 250]),
    ],
)
def test_blocks_that_share_or_have_segments_store_new_tokens_as_the_two_kernels_do_it(
    gpu, monkeypatch: pytest.MonkeyPatch, cluster: int, num_sms: int, lengths: list[int]
) -> None:
    monkeypatch.setattr(gpu, "num_sms", num_sms)
    monkeypatch.setattr(gpu, "plans", {})  # those of the same operands on the whole GPU
    case = (BF16, 6, 2, 64, 32, 16, None, lengths)
    check_new_tokens(gpu, case, "int8", cluster_shape(cluster, group=3, format="int8"))


def cluster_shape(cluster: int, *, group: int, format: KvFormat, blocks_per_sm: int = 1) -> DecodeShape:
    needed = shared_bytes(warps=2, stages=3, dim=64, group=group, format=format, cluster=cluster)
    return DecodeShape(warps=2, stages=3, cluster=cluster, blocks_per_sm=blocks_per_sm, shared_bytes=needed)


# whole segments of pairs; lengths that blocks share one by one
@pytest.mark.parametrize("lengths", [[200, 225, 193], [300, 17, 33]])
def test_pairs_of_two_blocks_an_sm_take_whole_segments_or_none(
    gpu, monkeypatch: pytest.MonkeyPatch, lengths: list[int]
) -> None:
    monkeypatch.setattr(gpu, "num_sms", 6)
    monkeypatch.setattr(gpu, "plans", {})  # those of the same operands on the whole GPU
    shape = cluster_shape(2, group=3, format="int8", blocks_per_sm=2)
    check_new_tokens(gpu, (BF16, 6, 2, 64, 32, 16, None, lengths), "int8", shape)


def copied(layer: KvLayer) -> KvLayer:
    (keys, key_scales), (values, value_scales) = (
        tuple(None if x is None else x.clone() for x in pair) for pair in layer.pages
    )
    return KvLayer(
        keys_PKTD=keys,
        values_PKTD=values,
        format=layer.format,
        key_scales_PKTS=key_scales,
        value_scales_PKTS=value_scales,
    )


@pytest.mark.parametrize(("format", "case"), NEW, ids=str)
def test_new_tokens_are_rotated_and_stored_as_the_two_kernels_do_it(gpu, format: KvFormat, case) -> None:
    check_new_tokens(gpu, case, format)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("format", "case"),
    [(form, case) for form in get_args(KvFormat) for case in NEW_MODELS if (form, case[0]) != ("bf12", FP16)],
    ids=lambda value: str(value)[:60],
)
def test_new_tokens_are_rotated_and_stored_as_the_two_kernels_do_it_at_model_sizes(
    cuda_gpu, case, format: KvFormat
) -> None:
    check_new_tokens(cuda_gpu, case, format)


def test_pairs_that_are_no_whole_units_are_left_to_the_kernel_before() -> None:
    assert takes_new_tokens("none", dim=96, num_pairs=48)
    assert takes_new_tokens("int8", dim=96, num_pairs=48)
    assert not takes_new_tokens("int4", dim=96, num_pairs=48)
    assert not takes_new_tokens("none", dim=64, num_pairs=12)
    assert not takes_new_tokens("none", dim=64, num_pairs=0)


def test_new_tokens_of_other_pairs_are_refused(gpu) -> None:
    pages = torch.zeros(2, 2, 16, 64, dtype=BF16, device=gpu.device)
    kv = KvLayer(keys_PKTD=pages, values_PKTD=pages)
    one = torch.ones(1, 1, dtype=torch.int32, device=gpu.device)
    q = torch.ones(1, 2, 64, dtype=BF16, device=gpu.device)
    none = torch.zeros(1, 0, device=gpu.device)
    new = NewTokens(k_BKD=q, v_BKD=q, cos_BR=none, sin_BR=none, slots_B=one[0].long())
    with pytest.raises(
        KernelError, match=r"new tokens of 0 rotated pairs in heads of 64.*call `rope_store_kv`"
    ):
        attention_decode(gpu, q, kv, one, one[0], scale=1.0, window=None, new=new)
