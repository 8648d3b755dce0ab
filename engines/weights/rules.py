"""Name rules: which checkpoint tensor is which parameter. Plain data and its types; torch-free.

Families list rules, `engines/weights/match.py` applies them. A rule says nothing about ranks: how a parameter
is shared among them stands with the parameter (`engines/weights/parameters.py`), once for all families.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Layout = Literal["plain", "grouped_qkv", "reshaped"]
KINDS = ("weight", "bias")  # of a layer


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One row of a name table; names match as a whole, and `{i}` in both is the same layer number."""

    source: str  # name in the checkpoint
    target: str  # name of our parameter
    block: str | None = None  # the stretch of a fused parameter that the tensor is; None: all of it
    # grouped_qkv: for each KV head its query heads, then its key, then its value. reshaped: as many numbers
    # in another shape, for parameters that no rank cuts.
    layout: Layout = "plain"
    # Of q and k heads whose rotary pairs stand side by side: how many; they are taken apart, as ours stand.
    rotary_pairs: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class NameRules:
    """Every tensor that a family's checkpoints may hold."""

    rules: tuple[Rule, ...]
    ignored: tuple[str, ...] = ()  # patterns of tensors that carry nothing; `*` stands for any text
    # Other spellings of the same checkpoint: (prefix in the file, prefix in the rules), the first that fits.
    spellings: tuple[tuple[str, str], ...] = ()

    def respelled(self, name: str) -> str:
        """Return a checkpoint's name as the rules spell it."""
        for theirs, ours in self.spellings:
            if name.startswith(theirs):
                return ours + name.removeprefix(theirs)
        return name


def rows(*table: tuple[str, str]) -> tuple[Rule, ...]:
    """Return rules from pairs (source, target)."""
    return tuple(Rule(source=source, target=target) for source, target in table)


def layers(*table: tuple[str, str]) -> tuple[Rule, ...]:
    """Return rules for weight and bias of each of these layers; one that has no bias claims none."""
    return rows(*((f"{source}.{kind}", f"{target}.{kind}") for source, target in table for kind in KINDS))


def fused(source: str, target: str, blocks: Iterable[str]) -> tuple[Rule, ...]:
    """Return rules for layers that a checkpoint holds apart, `{}` in their name, as blocks of one of ours."""
    return tuple(
        Rule(source=f"{source.replace('{}', block)}.{kind}", target=f"{target}.{kind}", block=block)
        for block in blocks
        for kind in KINDS
    )


def prefixed(rules: Iterable[Rule], *, source: str = "", target: str = "") -> tuple[Rule, ...]:
    """Return the rules with text put before their names."""
    return tuple(replace(rule, source=source + rule.source, target=target + rule.target) for rule in rules)
