"""Which part of a parameter one rank holds: arithmetic on row and column numbers. Torch-free.

`local_shape` gives the tensor to allocate, `pieces` the stretches to copy from a checkpoint tensor into it.
Cutting comes before any change of layout, so a rank reads its share only.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from engines.errors import CheckpointError
from engines.weights.parameter import Block, Parameter
from engines.weights.rules import Rule

VOCAB_MULTIPLE = 64  # rows of the head on a rank are a multiple of it, which matrix kernels want


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A stretch of a checkpoint tensor and where it lands in this rank's parameter."""

    axis: int
    source: int
    target: int
    length: int


def local_shape(parameter: Parameter, *, tp: int) -> tuple[int, ...]:
    """Return the shape of the parameter on one rank of `tp`; all ranks have the same."""
    first, *rest = parameter.shape
    if parameter.split in ("vocab", "padded"):
        padded = padded_vocab(first, tp=tp)
        return (padded // tp if parameter.split == "vocab" else padded, *rest)
    if parameter.split == "rows":
        return (sum(_units(block, 0, tp)[1] * block.unit_rows for block in _blocks(parameter)), *rest)
    if parameter.split == "cols":
        return (first, _share(parameter.name, rest[0], 0, tp)[1])
    return parameter.shape


def padded_vocab(vocab: int, *, tp: int) -> int:
    """Return the rows of an embedding or head table, padded so that each rank gets a multiple of 64."""
    multiple = VOCAB_MULTIPLE * tp
    return -(-vocab // multiple) * multiple


def source_shape(rule: Rule, parameter: Parameter) -> tuple[int, ...]:
    """Return the shape that the checkpoint tensor of a rule must have."""
    if rule.block is None:
        return parameter.shape
    return (block_named(parameter, rule.block).num_rows, *parameter.shape[1:])


def pieces(rule: Rule, parameter: Parameter, *, rank: int, tp: int) -> list[Piece]:
    """Return what this rank copies from the rule's tensor, adjacent stretches merged."""
    if parameter.split == "copy" and (rule.block is not None or rule.layout == "grouped_qkv"):
        return _merged(_row_pieces(rule, parameter, rank=0, tp=1))
    if parameter.split in ("copy", "padded"):
        return [Piece(axis=0, source=0, target=0, length=parameter.shape[0])]
    if parameter.split == "first_rank":
        return [Piece(axis=0, source=0, target=0, length=parameter.shape[0])] if rank == 0 else []
    if parameter.split == "cols":
        start, length = _share(parameter.name, parameter.shape[1], rank, tp)
        return [Piece(axis=1, source=start, target=0, length=length)]
    if parameter.split == "vocab":
        length = local_shape(parameter, tp=tp)[0]
        left = min(length, parameter.shape[0] - rank * length)
        return [Piece(axis=0, source=rank * length, target=0, length=left)] if left > 0 else []
    return _merged(_row_pieces(rule, parameter, rank=rank, tp=tp))


def split_pairs(rule: Rule, parameter: Parameter, *, tp: int) -> list[int]:
    """Return the order of this rank's rows that takes the rotary pairs of q and k heads apart.

    Pair i of a head, its numbers 2i and 2i + 1, comes to i and i + `rotary_pairs`.
    """
    turning = range(2 * rule.rotary_pairs)
    order: list[int] = []
    for block in parameter.blocks:
        for _ in range(_units(block, 0, tp)[1]):
            start, rows = len(order), list(range(block.unit_rows))
            if block.name in ("q", "k"):
                rows = [*turning[::2], *turning[1::2], *rows[len(turning) :]]
            order += [start + row for row in rows]
    return order


def block_named(parameter: Parameter, name: str) -> Block:
    """Return a block of a fused parameter."""
    return next(block for block in parameter.blocks if block.name == name)


def _row_pieces(rule: Rule, parameter: Parameter, *, rank: int, tp: int) -> Iterator[Piece]:
    """Yield one piece a unit: where the rule's tensor holds it, and where this rank puts it."""
    target = 0
    for block in _blocks(parameter):
        start, length = _units(block, rank, tp)
        for unit in range(start, start + length):
            if rule.block in (None, block.name):
                source = _source_unit(rule, parameter, block, unit) * block.unit_rows
                yield Piece(axis=0, source=source, target=target, length=block.unit_rows)
            target += block.unit_rows


def _source_unit(rule: Rule, parameter: Parameter, block: Block, unit: int) -> int:
    if rule.block is not None:
        return unit
    if rule.layout == "grouped_qkv":
        queries, keys, _ = parameter.blocks
        per_group = queries.num_units // keys.num_units
        if block.name == "q":
            return unit // per_group * (per_group + 2) + unit % per_group
        return unit * (per_group + 2) + per_group + (block.name == "v")
    before = 0
    for earlier in parameter.blocks:
        if earlier.name == block.name:
            break
        before += earlier.num_rows
    return before // block.unit_rows + unit


def _merged(parts: Iterator[Piece]) -> list[Piece]:
    merged: list[Piece] = []
    for part in parts:
        last = merged[-1] if merged else None
        if last and (last.source + last.length, last.target + last.length) == (part.source, part.target):
            merged[-1] = replace(last, length=last.length + part.length)
        else:
            merged.append(part)
    return merged


def _blocks(parameter: Parameter) -> tuple[Block, ...]:
    return parameter.blocks or (Block(name=parameter.name, num_units=parameter.shape[0], unit_rows=1),)


def _units(block: Block, rank: int, tp: int) -> tuple[int, int]:
    """Return first unit and number of units; ranks that outnumber the KV heads share one."""
    if block.num_units < tp and tp % block.num_units == 0 and block.name in ("k", "v"):
        return rank * block.num_units // tp, 1
    return _share(block.name, block.num_units, rank, tp)


def _share(what: str, count: int, rank: int, tp: int) -> tuple[int, int]:
    if count % tp:
        raise CheckpointError(f"tp={tp}: must divide the {count} units of `{what}`; choose another engine.tp")
    return rank * (count // tp), count // tp
