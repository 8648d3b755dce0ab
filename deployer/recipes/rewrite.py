"""New values in a YAML file whose comments stay: only top-level keys that changed are written anew."""

from collections.abc import Mapping
from typing import Any

import yaml

from deployer.yaml_text import LOADER, yaml_text


def rewrite(text: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return the text of a YAML mapping with the values of `new`.

    Keys that are new come first, below the comment that opens the file; a key that stays keeps its lines.
    """
    opening, blocks = _blocks(text)
    added = [yaml_text({key: value}) for key, value in new.items() if key not in old]
    kept = [
        block if new[key] == old[key] else yaml_text({key: new[key]})
        for key, block in blocks.items()
        if key in new
    ]
    return opening + "".join(f"{part}\n" for part in added) + "".join(kept)


def _blocks(text: str) -> tuple[str, dict[str, str]]:
    """Return what stands before the first key, and the lines of each top-level key."""
    node = yaml.compose(text, Loader=LOADER)
    assert isinstance(node, yaml.MappingNode), "a recipe that was read is a mapping"
    lines = text.splitlines(keepends=True)
    starts = [key.start_mark.line for key, _ in node.value]
    ends = [*starts[1:], len(lines)]
    blocks = {
        str(key.value): "".join(lines[start:end])
        for (key, _), start, end in zip(node.value, starts, ends, strict=True)
    }
    return "".join(lines[: starts[0]]), blocks
