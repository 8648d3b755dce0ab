"""Recipes of older schemas -> this one: one pure function a step, on plain mappings.

0 -> 1    a file without a `recipe:` block gets one; what can't be known from the file is given as `About`
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deployer.config.recipe_file import BLOCK, SCHEMA

Values = dict[str, Any]
TOLERANCE = 0.5  # of a recipe that said nothing of it


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What a recipe's file does not say itself."""

    name: str
    description: str
    hardware: str


Step = Callable[[Values, About], Values]


def add_block(values: Values, about: About) -> Values:
    """0 -> 1: the recipe says what it is."""
    block = {**asdict(about), "version": "1", "tolerance": TOLERANCE, "expected": None}
    return {BLOCK: {"schema": 1, **block}, **values}


STEPS: Mapping[int, Step] = {0: add_block}


def schema_of(values: Mapping[str, Any]) -> int:
    """Return the schema of a recipe's content; 0 where it has no block."""
    block = values.get(BLOCK)
    return int(block.get("schema", SCHEMA)) if isinstance(block, Mapping) else 0


def migrate(
    values: Values, about: About, *, steps: Mapping[int, Step] = STEPS, target: int = SCHEMA
) -> Values:
    """Return the content in the target schema; what is there already stays as it is."""
    for schema in range(schema_of(values), target):
        values = steps[schema](values, about)
        assert schema_of(values) == schema + 1, f"the step from schema {schema} leads one further"
    return values
