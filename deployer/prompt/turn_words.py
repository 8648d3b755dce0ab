"""The words around the messages of a prompt, some replaced: `chat_template.system`, `eosys`, `user`, ...

A template writes what it likes. Its own words are found by having it write conversations whose contents
begin and end with marks: what stands between two marks closes one turn and opens the next. What was found is
tried on whole conversations and must write them as the template does; a template that is written in another
way (a system text inside the first question) is refused. Contents, pictures and labels stay the template's.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deployer.errors import ConfigError

View = Mapping[str, Any]  # a message as a template sees it
Write = Callable[
    [Sequence[View], str | None, bool], str
]  # messages, system text, whether the answer is opened

WORDS = ("system", "eosys", "user", "eoh", "assistant", "eoa", "separator")
_OPENS = {"system": "system", "user": "user", "assistant": "assistant"}
_CLOSES = {"system": "eosys", "user": "eoh", "assistant": "eoa"}


@dataclass(frozen=True, kw_only=True, slots=True)
class TurnWords:
    """What stands before and behind each kind of message."""

    start: str = ""  # before all of it
    system: str = ""
    eosys: str = ""
    user: str = ""
    eoh: str = ""
    assistant: str = ""
    eoa: str = ""
    separator: str = ""  # between an answer and the next question
    answer: str = ""  # opens the answer that is asked for; mostly `assistant`

    def changed(self, words: Mapping[str, str]) -> "TurnWords":
        """Return them with some replaced; `assistant` opens the answer too."""
        answer = words.get("assistant", self.answer)
        return replace(self, **{**words, "answer": answer})

    def write(self, contents: Sequence[tuple[str, str]], *, add_generation_prompt: bool) -> str:
        """Return the prompt of (role, content) pairs."""
        text = self.start
        for number, (role, content) in enumerate(contents):
            if number and contents[number - 1][0] == "assistant":
                text += self.separator
            text += getattr(self, _OPENS[role]) + content + getattr(self, _CLOSES[role])
        return text + (self.answer if add_generation_prompt else "")


@dataclass(frozen=True, slots=True)
class _Marks:
    """Strings that no text of a client can hold."""

    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def around(self, view: View, number: int) -> View:
        begin, end = ({"type": "text", "text": f"<{self.secret}{side}{number}>"} for side in "be")
        return {**view, "content": [begin, *view["content"], end]}

    def split(self, text: str, count: int) -> tuple[list[str], list[str]] | None:
        """Return what stands around the contents, one more than there are, and the contents."""
        around: list[str] = []
        contents: list[str] = []
        for number in range(count):
            before, begun, text = text.partition(f"<{self.secret}b{number}>")
            content, ended, text = text.partition(f"<{self.secret}e{number}>")
            if not begun or not ended:
                return None
            around.append(before)
            contents.append(content)
        return [*around, text], contents


def with_words(write: Write, words: Mapping[str, str], *, origin: str) -> Write:
    """Return what writes as `write` does but for some of `WORDS`. Raises ConfigError, naming `origin`."""
    found = _found(write)
    if found is None:
        keys = ", ".join(f"chat_template.{name}" for name in words)
        raise ConfigError(
            [
                f"{keys}: {origin} does not write its turns between fixed words, which these keys replace; "
                "use chat_template=chatml, chat_template=bare or a file of your own"
            ]
        )
    changed = found.changed(words)

    def written(views: Sequence[View], system: str | None, add_generation_prompt: bool) -> str:
        return _written(write, changed, views, system, add_generation_prompt)

    return written


def without_words(write: Write) -> Write:
    """Return what writes the contents of messages as `write` does, and nothing around them."""

    def written(views: Sequence[View], system: str | None, add_generation_prompt: bool) -> str:
        return _written(write, TurnWords(), views, system or "", add_generation_prompt)

    return written


def _written(
    write: Write, words: TurnWords, views: Sequence[View], system: str | None, add_generation_prompt: bool
) -> str:
    marks = _Marks()
    marked = [marks.around(view, number) for number, view in enumerate(views)]
    parts = marks.split(write(marked, "", add_generation_prompt), len(views))
    assert parts is not None, "the template has written such conversations before"
    contents = [(str(view["role"]), content) for view, content in zip(views, parts[1], strict=True)]
    if not contents or contents[0][0] != "system":
        own = _own_system(write) if system is None else system
        contents = [("system", own), *contents] if own else contents
    return words.write(contents, add_generation_prompt=add_generation_prompt)


def _found(write: Write) -> TurnWords | None:
    """Return the words that a template writes, None where it does not write between words."""
    turns = [_view("user", "q"), _view("assistant", "a"), _view("user", "r")]
    try:
        asked, opened = _around(write, turns, False), _around(write, turns, True)
        answered = _around(write, turns[:2], False)
        told = _around(write, [_view("system", "s"), turns[0]], False)
    except _Other:
        return None
    eoh, eoa = asked[3], answered[2]
    user = asked[2].removeprefix(eoa)
    words = TurnWords(
        start=asked[0].removesuffix(user),
        user=user,
        eoh=eoh,
        assistant=asked[1].removeprefix(eoh),
        eoa=eoa,
        answer=opened[3].removeprefix(eoh),
        system=told[0].removeprefix(asked[0].removesuffix(user)),
        eosys=told[1].removesuffix(user),
    )
    return words if _writes_the_same(write, words) else None


class _Other(Exception):
    """The template lost a mark."""


def _around(write: Write, views: Sequence[View], add_generation_prompt: bool) -> list[str]:
    marks = _Marks()
    text = write([marks.around(view, i) for i, view in enumerate(views)], "", add_generation_prompt)
    parts = marks.split(text, len(views))
    if parts is None:
        raise _Other
    return parts[0]


def _writes_the_same(write: Write, words: TurnWords) -> bool:
    """Tell whether both write the same conversations: with a system text and without, with a picture."""
    turns = [_pictured("one"), _view("assistant", "two"), _view("user", "three")]
    for views in (turns, turns[:2], [_view("system", "zero"), *turns]):
        for add_generation_prompt in (True, False):
            if views[-1]["role"] == "assistant" and add_generation_prompt:
                continue
            if _written(write, words, views, "", add_generation_prompt) != write(
                views, "", add_generation_prompt
            ):
                return False
    return True


def _own_system(write: Write) -> str:
    """Return the system text that a template writes where none is given."""
    view = [_view("user", "text")]
    with_own, without = write(view, None, False), write(view, "", False)
    if with_own == without:
        return ""
    given = secrets.token_hex(16)
    before, _, after = write(view, given, False).partition(given)
    return with_own.removeprefix(before).removesuffix(after)


def _pictured(text: str) -> View:
    picture = {"type": "image", "slot": "(picture)", "number": 1, "by_hand": False, "after_text": False}
    view = _view("user", text)
    return {**view, "content": [picture, *view["content"]], "num_images": 1}


def _view(role: str, text: str) -> View:
    content = [{"type": "text", "text": text}]
    return {"role": role, "content": content, "num_images": 0, "tool_calls": [], "tool_call_id": None}
