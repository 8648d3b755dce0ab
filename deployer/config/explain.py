"""`deploy explain [key ...] [overrides]`: every value of a deployment, with what set it and what it replaced.

    engine.tp = 2    <- command line `engine.tp=2` (2) <- conf/engine/_runtime.yaml:4 (1)

The first origin holds, those after it lost. `output=json` prints the same for programs.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, get_type_hints

from deployer.config.arms import arm_for
from deployer.config.compose import Composition, compose
from deployer.config.load import validate
from deployer.config.old_names import replacement
from deployer.config.origins import Setting
from deployer.config.schema import DeployConfig
from deployer.config.suggest import way_out
from deployer.config.words import is_recipe_file
from deployer.errors import EXIT_OK, ConfigError, UsageError
from deployer.output import take_output
from deployer.table import paint

SECRET = ("server.api_keys",)  # never printed: people paste this into issues
HIDDEN = "***"
JSON_SCHEMA = 1


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Print the values below the given keys, or all; then raise ConfigError if the tree has faults."""
    output, words = take_output(words)
    bare = [word for word in words if "=" not in word and not word.startswith("~")]
    keys = [word for word in bare if not is_recipe_file(word)]
    composition = compose([word for word in words if word not in keys], config_dirs=config_dirs)
    fault = _fault(composition)
    values = list(_chosen(dict(leaves(_in_schema_order(composition.values, DeployConfig))), keys))
    if output == "json":
        _print_json(composition, values, sys.stdout)
    else:
        _print_lines(composition, values, sys.stdout)
    if fault is not None:
        raise fault
    return EXIT_OK


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value with its dotted key; a list is one value."""
    for name, value in values.items():
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, Mapping) and value:
            yield from leaves(value, key)
        else:
            yield key, value


def _in_schema_order(values: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    """Return the values in the order of the schema's fields; keys that it does not know come last."""
    hints = get_type_hints(kind)
    known = {name: values[name] for name in hints if name in values}
    ordered = {**known, **values}
    for name, hint in hints.items():
        arm = arm_for(hint, ordered.get(name))
        if arm is not None and isinstance(ordered.get(name), Mapping):
            ordered[name] = _in_schema_order(ordered[name], arm)
    return ordered


def _fault(composition: Composition) -> ConfigError | None:
    try:
        validate(composition)
    except ConfigError as error:
        return error
    return None


def _chosen(values: Mapping[str, Any], keys: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield the values at or below the keys. Raises UsageError for each key that names none."""
    known = {part for key in values for part in _and_above(key)}
    unknown = [
        f"unknown key `{key}`: {replacement(key, None) or way_out(key, known, kind='keys')}"
        for key in keys
        if key not in known
    ]
    if unknown:
        raise UsageError("\n".join(unknown))
    wanted = set(keys)
    yield from ((key, value) for key, value in values.items() if not wanted or wanted & set(_and_above(key)))


def _and_above(key: str) -> Iterator[str]:
    parts = key.split(".")
    yield from (".".join(parts[: i + 1]) for i in range(len(parts)))


def _print_lines(composition: Composition, values: Sequence[tuple[str, Any]], out: TextIO) -> None:
    left = [f"{key} = {_shown(key, value)}" for key, value in values]
    width = min(max((len(text) for text in left), default=0), 60)
    for (key, _), text in zip(values, left, strict=True):
        settings = list(reversed(composition.origins.of(key)))
        tail = "".join(f" <- {_origin(key, setting, alone=len(settings) == 1)}" for setting in settings)
        print(f"{text:{width}} {paint(tail, 'dim', out=out)}".rstrip(), file=out)


def _print_json(composition: Composition, values: Sequence[tuple[str, Any]], out: TextIO) -> None:
    rows = [
        {
            "key": key,
            "value": HIDDEN if key in SECRET and value else value,
            "settings": [_as_json(key, setting) for setting in reversed(composition.origins.of(key))],
        }
        for key, value in values
    ]
    json.dump({"schema": JSON_SCHEMA, "choices": composition.choices, "values": rows}, out, indent=2)
    out.write("\n")


def _origin(key: str, setting: Setting, *, alone: bool) -> str:
    if key in SECRET:
        return setting.where if setting.flag is None else f"command line `{key}={HIDDEN}`"
    return setting.where if alone or not setting.text else f"{setting.where} ({setting.text})"


def _as_json(key: str, setting: Setting) -> dict[str, Any]:
    text = HIDDEN if key in SECRET else setting.text
    if setting.flag is not None:
        return {"flag": f"{key}={HIDDEN}" if key in SECRET else setting.flag, "text": text}
    return {"file": setting.file, "line": setting.line, "text": text}


def _shown(key: str, value: Any) -> str:
    if key in SECRET and value:
        return HIDDEN
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
