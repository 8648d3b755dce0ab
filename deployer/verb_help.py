"""`deploy <verb> --help`: usage, what it does, examples, its keys as conf/ explains them."""

import re
import textwrap
from collections.abc import Iterator

from deployer.assets import resource_dir
from deployer.sub_verbs import WITH_SUB_VERBS, usage
from deployer.verbs import VERBS

WIDTH = 118
_KEY = re.compile(r"(?P<name>\w+): (?P<value>.*?)(?:\s+# (?P<comment>.*))?")


def verb_help(name: str) -> str:
    """Return what `deploy NAME --help` prints."""
    verb = VERBS[name]
    width = max(len(command) for command, _ in verb.examples)
    lines = [
        f"usage: deploy {name} {verb.usage} [--config-dir DIR]",
        "",
        verb.summary,
        "",
        *(f"  {command:{width}}  {what}" for command, what in verb.examples),
    ]
    for file in (*(f"{group.name}/{group.option}" for group in verb.groups), *verb.shown_keys):
        lines += ["", *_keys(file)]
    if name in WITH_SUB_VERBS:
        lines += ["", usage(name)]
    if verb.takes == "deployment":
        lines += ["", "Every other key of a deployment, with what set it: deploy explain +model=<name>"]
    return "\n".join(lines) + "\n"


def _keys(file: str) -> Iterator[str]:
    """Yield the keys of an option, each with its value and its comment, below the file's name."""
    group = file.partition("/")[0]
    text = (resource_dir("conf") / f"{file}.yaml").read_text(encoding="utf-8")
    found = [match for line in text.splitlines() if (match := _KEY.fullmatch(line))]
    words = [
        f"{group}.{match['name']}" + (f"={match['value']}" if match["value"] else ".*") for match in found
    ]
    width = min(44, max(map(len, words)))
    yield f"Keys (conf/{file}.yaml)"
    for word, match in zip(words, found, strict=True):
        comment = textwrap.wrap(match["comment"] or "", WIDTH - width - 4) or [""]
        if len(word) > width:
            yield f"  {word}"
            word = ""
        yield f"  {word:{width}}  {comment[0]}".rstrip()
        yield from (f"  {'':{width}}  {line}" for line in comment[1:])
