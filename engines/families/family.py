"""What one checkpoint family declares: a config reader and a table of names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from engines.families.config_section import ConfigSection
from engines.spec import ModelSpec
from engines.weights.rules import NameRules


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """One way in which upstream publishes a model."""

    name: str
    model_types: tuple[str, ...]  # `model_type` values of config.json
    architectures: tuple[str, ...]  # `architectures` values of config.json
    read: Callable[[ConfigSection], ModelSpec]
    rules: Callable[[ModelSpec], NameRules]
    # What else config.json must say, where another family has the same names; None: nothing.
    applies: Callable[[Mapping[str, Any]], bool] | None = None
