"""What the pages say can be followed: links lead somewhere, commands are ones that this version takes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.command_words import parse
from deployer.config.load import load_for_verb
from deployer.errors import DeployError
from deployer.verb import Verb
from deployer.verbs import VERBS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])


def commands() -> Iterator[str]:
    """Yield each `deploy` of a console block, whole, but for those that are shown for their errors."""
    for page in PAGES:
        for block in re.findall(r"(?s)```console\n(.*?)```", page.read_text(encoding="utf-8")):
            for command, answer in re.findall(
                r"(?m)^\$ (.*)\n(?=(.*))", re.sub(r"\\\n\s*", "", block) + "\n"
            ):
                if command.startswith("deploy ") and not answer.startswith("error:"):
                    yield command


def typed(command: str) -> list[str]:
    """Return the words of a command as the shell hands them over, redirections and what follows left out."""
    words = shlex.split(command, comments=True)[1:]
    end = next((place for place, word in enumerate(words) if word in (">", "&&", "|", "&")), len(words))
    return words[:end]


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_to_a_head_in_it(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_every_command_has_a_verb_and_keys_that_are_there(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = parse(typed(command))
    if words.verb.takes == "deployment" and not _asks_another(words.verb, words.words):
        try:
            load_for_verb(words.verb, words.words, config_dirs=words.config_dirs)
        except DeployError as error:  # a folder or a recipe of the reader's
            for fault in str(error).splitlines():
                assert re.search(r"there is no such|is not a folder", fault), fault


def _asks_another(verb: Verb, words: list[str]) -> bool:
    return verb.instead is not None and any(word.startswith(f"{verb.instead[0]}=") for word in words)


def test_the_pages_show_every_verb() -> None:
    shown = {parse(typed(command)).name for command in commands()}
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert {verb for verb in VERBS if verb not in shown and f"deploy {verb}" not in text} == set()
