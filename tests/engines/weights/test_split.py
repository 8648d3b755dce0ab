"""Cutting before laying out equals laying out before cutting, for every rank of every group size."""

import numpy as np
import pytest

from engines.errors import CheckpointError
from engines.weights.parameters import Block, Parameter
from engines.weights.rules import Layout, Rule
from engines.weights.split import Piece, local_shape, padded_vocab, pieces, source_shape, split_pairs

HEADS, KV_HEADS, HEAD_DIM, WIDTH = 8, 4, 3, 5
QKV = (
    Block(name="q", num_units=HEADS, unit_rows=HEAD_DIM),
    Block(name="k", num_units=KV_HEADS, unit_rows=HEAD_DIM),
    Block(name="v", num_units=KV_HEADS, unit_rows=HEAD_DIM),
)
QKV_ROWS = (HEADS + 2 * KV_HEADS) * HEAD_DIM
FUSED = Parameter(name="qkv.weight", shape=(QKV_ROWS, WIDTH), split="rows", blocks=QKV)


def rule(*, block: str | None = None, layout: Layout = "plain") -> Rule:
    return Rule(source="x", target="y", block=block, layout=layout)


def copied(target: np.ndarray, source: np.ndarray, parts: list[Piece]) -> None:
    for part in parts:
        where = [slice(None)] * source.ndim
        where[part.axis] = slice(part.source, part.source + part.length)
        there = [slice(None)] * source.ndim
        there[part.axis] = slice(part.target, part.target + part.length)
        target[tuple(there)] = source[tuple(where)]


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


def plain_blocks() -> list[np.ndarray]:
    return np.split(random(QKV_ROWS, WIDTH), [HEADS * HEAD_DIM, (HEADS + KV_HEADS) * HEAD_DIM])


def grouped() -> np.ndarray:
    """Interleave q, k, v as InternLM2 stores them."""
    q, k, v = (block.reshape(-1, HEAD_DIM, WIDTH) for block in plain_blocks())
    per_group = HEADS // KV_HEADS
    groups = [[*q[g * per_group : (g + 1) * per_group], k[g], v[g]] for g in range(KV_HEADS)]
    return np.concatenate([head for group in groups for head in group])


def wanted_share(rank: int, tp: int) -> np.ndarray:
    """Cut whole heads from q, k and v laid out plainly; ranks beyond the KV heads share one."""
    shares = []
    for block in plain_blocks():
        heads = block.reshape(-1, HEAD_DIM, WIDTH)
        if len(heads) >= tp:
            count = len(heads) // tp
            shares.append(heads[rank * count : (rank + 1) * count])
        else:
            shares.append(heads[rank * len(heads) // tp][None])
    return np.concatenate([share.reshape(-1, WIDTH) for share in shares])


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_grouped_plain_and_separate_qkv_give_a_rank_the_same_rows(tp: int) -> None:
    q, k, v = plain_blocks()
    sources = {
        "grouped": [(rule(layout="grouped_qkv"), grouped())],
        "plain": [(rule(), np.concatenate([q, k, v]))],
        "separate": [(rule(block="q"), q), (rule(block="k"), k), (rule(block="v"), v)],
    }
    for rank in range(tp):
        for name, tensors in sources.items():
            target = np.full(local_shape(FUSED, tp=tp), np.nan)
            for one, source in tensors:
                assert source.shape == source_shape(one, FUSED)
                copied(target, source, pieces(one, FUSED, rank=rank, tp=tp))
            assert np.array_equal(target, wanted_share(rank, tp)), (name, rank)


def test_a_rank_of_two_reads_a_grouped_tensor_once_and_half_of_it() -> None:
    parts = pieces(rule(layout="grouped_qkv"), FUSED, rank=1, tp=2)
    assert sum(part.length for part in parts) == QKV_ROWS // 2
    assert min(part.source for part in parts) == QKV_ROWS // 2


def test_a_whole_tensor_is_one_piece() -> None:
    assert pieces(rule(), FUSED, rank=0, tp=1) == [Piece(axis=0, source=0, target=0, length=QKV_ROWS)]


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_gate_and_up_are_cut_each_for_itself(tp: int) -> None:
    blocks = tuple(Block(name=name, num_units=8, unit_rows=1) for name in ("gate", "up"))
    parameter = Parameter(name="gate_up", shape=(16, 2), split="rows", blocks=blocks)
    whole = random(16, 2)
    for rank in range(tp):
        target = np.full(local_shape(parameter, tp=tp), np.nan)
        copied(target, whole, pieces(rule(), parameter, rank=rank, tp=tp))
        rows = slice(rank * 8 // tp, (rank + 1) * 8 // tp)
        assert np.array_equal(target, np.concatenate([whole[:8][rows], whole[8:][rows]]))


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_columns_put_side_by_side_are_the_whole(tp: int) -> None:
    parameter = Parameter(name="o", shape=(3, 8), split="cols")
    whole, shares = random(3, 8), []
    for rank in range(tp):
        shares.append(np.full(local_shape(parameter, tp=tp), np.nan))
        copied(shares[-1], whole, pieces(rule(), parameter, rank=rank, tp=tp))
    assert np.array_equal(np.concatenate(shares, axis=1), whole)


@pytest.mark.parametrize(
    ("vocab", "tp", "padded"), [(92553, 1, 92608), (92553, 8, 92672), (64, 1, 64), (5, 4, 256)]
)
def test_the_vocabulary_is_padded_to_64_rows_a_rank(vocab: int, tp: int, padded: int) -> None:
    assert padded_vocab(vocab, tp=tp) == padded
    head = Parameter(name="head", shape=(vocab, 2), split="vocab")
    embed = Parameter(name="embed", shape=(vocab, 2), split="padded")
    assert local_shape(head, tp=tp) == (padded // tp, 2)
    assert local_shape(embed, tp=tp) == (padded, 2)
    lengths = [sum(p.length for p in pieces(rule(), head, rank=rank, tp=tp)) for rank in range(tp)]
    assert sum(lengths) == vocab


def test_a_bias_that_is_summed_over_ranks_lives_on_the_first() -> None:
    bias = Parameter(name="o.bias", shape=(6,), split="first_rank")
    assert [local_shape(bias, tp=2), len(pieces(rule(), bias, rank=0, tp=2))] == [(6,), 1]
    assert pieces(rule(), bias, rank=1, tp=2) == []


@pytest.mark.parametrize("tp", [3, 16])
def test_a_group_that_does_not_divide_the_heads_is_refused(tp: int) -> None:
    with pytest.raises(CheckpointError, match=f"tp={tp}: must divide the 8 units of `q`"):
        local_shape(FUSED, tp=tp)


def test_rotary_pairs_side_by_side_are_taken_apart_in_queries_and_keys_only() -> None:
    blocks = (
        Block(name="q", num_units=2, unit_rows=6),
        Block(name="k", num_units=1, unit_rows=6),
        Block(name="v", num_units=1, unit_rows=6),
    )
    parameter = Parameter(name="qkv.weight", shape=(24, 2), split="rows", blocks=blocks)
    paired = Rule(source="x", target="y", rotary_pairs=2)
    head = [0, 2, 1, 3, 4, 5]
    heads = [[6 * number + row for row in head] for number in range(3)]
    assert split_pairs(paired, parameter, tp=1) == [*heads[0], *heads[1], *heads[2], *range(18, 24)]
    assert split_pairs(paired, parameter, tp=2) == [*heads[0], *heads[1], *range(12, 18)]
