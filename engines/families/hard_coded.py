"""Sizes that upstream keeps in its code, where config.json has no place for them.

Released files do not say them; a checkpoint of other sizes may, under a key of the family's choice.
"""

from collections.abc import Mapping
from typing import Any

from engines.families.config_section import ConfigSection


def stated(section: ConfigSection, key: str, otherwise: Mapping[str, Any]) -> ConfigSection:
    """Return the object under a key, completed by `otherwise`; that alone where there is no such key."""
    given = section.values.get(key)
    return section.made(key, {**otherwise, **(section.nested(key).values if given is not None else {})})
