"""A group of the tree whose keys depend on its `kind`: which dataclass a kind means.

The schema writes such a group as a union of dataclasses, each with a `kind` of one literal.
"""

from collections.abc import Mapping
from dataclasses import is_dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def arms_of(hint: Any) -> tuple[type[Any], ...]:
    """Return the dataclasses of a hint: one, those of a union, or none."""
    if get_origin(hint) in (Union, UnionType):
        found = get_args(hint)
        return found if all(is_dataclass(arm) for arm in found) else ()
    return (hint,) if is_dataclass(hint) and isinstance(hint, type) else ()


def arm_for(hint: Any, values: Any) -> type[Any] | None:
    """Return the dataclass that these values spell; None where their `kind` names none."""
    arms = arms_of(hint)
    if len(arms) == 1:
        return arms[0]
    kind = values.get("kind") if isinstance(values, Mapping) else None
    return next((arm for arm in arms if kind in kinds_of(arm)), None)


def kinds_of(hint: Any) -> tuple[str, ...]:
    """Return the kinds that a group may have, in the order of the schema."""
    return tuple(kind for arm in arms_of(hint) for kind in get_args(get_type_hints(arm)["kind"]))
