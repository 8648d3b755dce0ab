"""Files whose defaults lists lead back to themselves, which Hydra follows until the stack is full."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import yaml

from deployer.config.origins import shown_path
from deployer.config.tree import ConfigTree


def circle(tree: ConfigTree, names: Iterable[str]) -> str | None:
    """Return the message for defaults lists that lead back to themselves; None where none do.

    `names`: files that were asked for, as paths below a config folder.
    """
    done: set[str] = set()
    found = next((way for name in names if (way := _back_to_itself(name, tree, (), done))), None)
    if found is None:
        return None
    file = tree.file(found[0])
    assert file is not None, "its list was read"
    return (
        f"{shown_path(file)}: its defaults lead back to itself ({' -> '.join(found)}): a file that is found "
        "earlier replaces the one of its name, and cannot be made of it; give it another name"
    )


def _back_to_itself(name: str, tree: ConfigTree, above: tuple[str, ...], done: set[str]) -> tuple[str, ...]:
    """Return the names of a circle that `name` closes or leads to, the first one twice; empty: none."""
    if name in above:
        return (*above[above.index(name) :], name)
    file = tree.file(name)
    if name in done or file is None:
        return ()
    for listed in _listed(file, group=name.rpartition("/")[0]):
        found = _back_to_itself(listed, tree, (*above, name), done)
        if found:
            return found
    done.add(name)
    return ()


def _listed(file: Path, *, group: str) -> Iterator[str]:
    """Yield the names that the defaults list of a file of this group has, as paths below a config folder."""
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    entries = content.get("defaults") if isinstance(content, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        for key, value in entry.items() if isinstance(entry, dict) else [("", entry)]:
            below = str(key).rpartition(" ")[2].partition("@")[0]  # behind `override`, in front of a package
            for option in value if isinstance(value, list) else [value]:
                if option is not None and option != "_self_":
                    yield _joined(group, below, str(option).partition("@")[0])


def _joined(group: str, below: str, option: str) -> str:
    path = "/".join(part for part in (below, option) if part)
    return path.lstrip("/") if path.startswith("/") or not group else f"{group}/{path}"
