"""Applying name rules: each checkpoint tensor is claimed once, each parameter written once, or one error
tells of all that is not.

Works on names and shapes only; `engines/weights/load.py` reads the tensors afterwards. Torch-free.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod

from engines.errors import CheckpointError
from engines.weights.parameter import Parameter
from engines.weights.rules import NameRules, Rule
from engines.weights.split import source_shape

MOST_SHOWN = 6  # tensors of one kind of fault: the first and their number tell what is wrong


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A checkpoint tensor and the parameter, or block of one, that it is."""

    source: str
    parameter: Parameter
    rule: Rule


def match(
    shapes: Mapping[str, tuple[int, ...]], table: NameRules, wanted: Sequence[Parameter], *, origin: str
) -> list[Claim]:
    """Pair the tensors of a checkpoint with the parameters of a network.

    `shapes` are the checkpoint's tensors. Raises CheckpointError, naming `origin`, with the number and the
    first of the tensors that no rule claims, of the parameters that no tensor writes or that several write,
    and of the shapes that are not as they must be.
    """
    by_name = {parameter.name: parameter for parameter in wanted}
    patterns = [(rule, _pattern(rule.source)) for rule in table.rules]
    claims: list[Claim] = []
    surplus: list[str] = []
    for name, shape in shapes.items():
        found = [
            claim for rule, pattern in patterns if (claim := _claim(rule, pattern, name, table, by_name))
        ]
        assert len(found) <= 1, f"rules overlap on {name}"
        if found:
            claims.append(found[0])
        elif not any(fnmatchcase(table.respelled(name), pattern) for pattern in table.ignored):
            surplus.append(f"`{name}` {list(shape)}")
    faults = [
        _fault("missing", "tensor", _missing(claims, table, wanted)),
        _fault("that no name rule of this config claims", "tensor", surplus),
        _fault("of another shape", "tensor", _misshapen(claims, shapes)),
        _fault("written twice", "parameter", _doubled(claims)),
    ]
    if any(faults):
        listed = "\n  ".join(fault for fault in faults if fault)
        raise CheckpointError(
            f"the weights in {origin} are not what its config.json describes: each tensor must be there "
            f"once, in its shape, and no other; fetch the checkpoint again or correct config.json\n  {listed}"
        )
    return claims


def claim_of(name: str, table: NameRules, wanted: Sequence[Parameter]) -> Claim | None:
    """Return what one checkpoint tensor is; None where no rule knows it."""
    by_name = {parameter.name: parameter for parameter in wanted}
    found = (_claim(rule, _pattern(rule.source), name, table, by_name) for rule in table.rules)
    return next((claim for claim in found if claim is not None), None)


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(re.escape("{i}"), r"(\d+)"))


def _renamed(pattern: re.Pattern[str], name: str, template: str) -> str | None:
    """Return the template with the layer number of the name, or None where the name doesn't match."""
    found = pattern.fullmatch(name)
    if found is None:
        return None
    return template.replace("{i}", found.group(1)) if found.groups() else template


def _claim(
    rule: Rule, pattern: re.Pattern[str], name: str, table: NameRules, by_name: Mapping[str, Parameter]
) -> Claim | None:
    target = _renamed(pattern, table.respelled(name), rule.target)
    parameter = by_name.get(target) if target else None
    return None if parameter is None else Claim(source=name, parameter=parameter, rule=rule)


def _missing(claims: Sequence[Claim], table: NameRules, wanted: Sequence[Parameter]) -> list[str]:
    written = {(claim.parameter.name, claim.rule.block) for claim in claims}
    patterns = [(rule, _pattern(rule.target)) for rule in table.rules]
    lines = []
    for parameter in wanted:
        if parameter.optional or (parameter.name, None) in written:
            continue
        rules = [
            (rule, source)
            for rule, pattern in patterns
            if (source := _renamed(pattern, parameter.name, rule.source)) is not None
        ]
        assert rules, f"no rule writes {parameter.name}"
        lines += [
            f"`{source}` {list(source_shape(rule, parameter))}"
            for rule, source in rules
            if (parameter.name, rule.block) not in written
        ]
    return lines


def _doubled(claims: Sequence[Claim]) -> list[str]:
    sources: dict[str, dict[str | None, list[str]]] = {}
    for claim in claims:
        sources.setdefault(claim.parameter.name, {}).setdefault(claim.rule.block, []).append(claim.source)
    lines = []
    for name, blocks in sources.items():
        clashing = list(blocks.values()) if None in blocks and len(blocks) > 1 else []
        clashing += [names for names in blocks.values() if len(names) > 1]
        if clashing:
            every = sorted({source for names in clashing for source in names})
            lines.append(f"`{name}` by {' and '.join(every)}")
    return lines


def _misshapen(claims: Sequence[Claim], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    lines = []
    for claim in claims:
        shape, right = shapes[claim.source], source_shape(claim.rule, claim.parameter)
        if claim.rule.layout == "reshaped" and prod(shape) == prod(right):
            continue
        if shape != right:
            lines.append(f"`{claim.source}` {list(shape)} instead of {list(right)}")
    return lines


def _fault(what: str, noun: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    shown, more = sorted(lines)[:MOST_SHOWN], len(lines) - MOST_SHOWN
    rest = f" and {more} more" if more > 0 else ""
    return f"{len(lines)} {noun}{'s' if len(lines) > 1 else ''} {what}: {', '.join(shown)}{rest}"
