"""Which model option stands for a repository of a hub."""

import re

from deployer.config.tree import ConfigTree

_REPO = re.compile(r"^repo:\s*(\S+)", re.MULTILINE)


def options_by_repository(tree: ConfigTree) -> dict[str, str]:
    """Return the model option that is downloaded from each `owner/name`, by that name in lower case."""
    found: dict[str, str] = {}
    for option in tree.options("model"):
        file = tree.file(f"model/{option}")
        assert file is not None, "an option has a file"
        told = _REPO.search(file.read_text(encoding="utf-8"))
        if told:
            found.setdefault(told[1].lower(), option)
    return found
