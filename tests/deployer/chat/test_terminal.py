"""The conversation in the terminal, with a partner that answers from a list."""

import io
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest

from deployer.chat.terminal import COMMANDS, Terminal
from deployer.prompt.image_errors import ImageError
from deployer.prompt.messages import ImagePart, ImageSource, Message
from engines.errors import RequestError


class Scripted:
    """A partner; every answer but those that fail comes in two pieces."""

    name = "somebody"

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[list[Message]] = []

    def picture(self, place: str) -> ImageSource:
        if place == "nothing.png":
            raise ImageError("nothing.png cannot be read", code="image_file_refused", index=0)
        return place.encode()

    def answer(self, messages: Sequence[Message]) -> Generator[str, None, None]:
        self.asked.append(list(messages))
        answer = self.answers.pop(0)
        yield answer[:3]
        if "fail" in answer:
            raise RequestError("the engine is gone")
        yield answer[3:]

    def close(self) -> None:
        pass


def talk(partner: Scripted, *lines: str) -> tuple[str, str, int]:
    """Return what was answered, what was said beside it, and the exit code."""
    out, messages = io.StringIO(), io.StringIO()
    typed = io.StringIO("".join(f"{line}\n" for line in lines))
    code = Terminal(partner, lines=typed, out=out, messages=messages).run()
    return out.getvalue(), messages.getvalue(), code


def pictures(message: Message) -> list[ImageSource]:
    return [part.source for part in message.parts if isinstance(part, ImagePart)]


def test_answers_alone_go_to_standard_output() -> None:
    partner = Scripted("It is red.", "A circle.")
    assert talk(partner, "What colour?", "", "What shape?") == ("It is red.\nA circle.\n", "", 0)


def test_a_turn_carries_what_was_said_before() -> None:
    partner = Scripted("It is red.", "A circle.")
    talk(partner, "What colour?", "What shape?")
    assert partner.asked[1] == [
        Message.of("user", "What colour?"),
        Message.of("assistant", "It is red."),
        Message.of("user", "What shape?"),
    ]


def test_pictures_go_with_the_next_question() -> None:
    partner = Scripted("one", "two")
    talk(partner, "/image a.png", "/image 'b c.png'", "What?", "And?")
    assert pictures(partner.asked[0][0]) == [b"a.png", b"b c.png"]
    assert pictures(partner.asked[1][2]) == []


def test_clear_forgets() -> None:
    partner = Scripted("one", "two")
    talk(partner, "What?", "/image a.png", "/clear", "And?")
    assert partner.asked[1] == [Message.of("user", "And?")]


def test_help_lists_every_command() -> None:
    _, messages, code = talk(Scripted(), "/help")
    assert all(command in messages for command in COMMANDS)
    assert code == 0


def test_exit_ends_it() -> None:
    partner = Scripted("one")
    assert talk(partner, "/exit", "What?") == ("", "", 0)
    assert partner.asked == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/imgae x", "unknown command `/imgae`: nearest commands: `/image`"),
        ("/image", "names no picture"),
        ("/image nothing.png", "nothing.png cannot be read"),
    ],
)
def test_a_wrong_command_is_told_and_counts(line: str, words: str) -> None:
    out, messages, code = talk(Scripted("still here"), line, "Hello?")
    assert words in messages
    assert out == "still here\n"
    assert code == 6


def test_a_question_that_fails_is_not_remembered_and_keeps_its_pictures() -> None:
    partner = Scripted("I fail", "Red.")
    out, messages, code = talk(partner, "/image a.png", "What?", "What colour?")
    assert out == "I f\nRed.\n"
    assert "error: the engine is gone" in messages
    assert code == 6
    assert len(partner.asked[1]) == 1
    assert pictures(partner.asked[1][0]) == [b"a.png"]


TALKER = """
import sys, time
from deployer.chat.terminal import Terminal

class Slow:
    name = "somebody slow"
    def answer(self, messages):
        yield "begun\\x1b[2J "
        while "forever" in str(messages[-1]):
            time.sleep(0.01)
        yield f"after {len(messages) - 1} messages"
    def close(self):
        pass

sys.exit(Terminal(Slow(), lines=sys.stdin, out=sys.stdout, messages=sys.stderr).run())
"""


class OnATerminal:
    """A program on a terminal of its own."""

    def __init__(self, *command: str | Path, **environment: str) -> None:
        self._end, inner = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
            env={**os.environ, "TERM": "dumb", **environment},
        )  # fmt: skip
        os.close(inner)
        self.shown = ""

    def wait_for(self, text: str, *, times: int = 1, seconds: float = 60) -> None:
        os.set_blocking(self._end, False)
        deadline = time.monotonic() + seconds
        while self.shown.count(text) < times:
            assert time.monotonic() < deadline, f"no `{text}` in:\n{self.shown}"
            try:
                self.shown += os.read(self._end, 4096).decode()
            except BlockingIOError:
                time.sleep(0.02)

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def close(self) -> int:
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()
            os.close(self._end)


def test_on_a_terminal_ctrl_c_stops_an_answer_and_a_second_leaves() -> None:
    terminal = OnATerminal(sys.executable, "-c", TALKER)
    terminal.wait_for("somebody slow; /help lists the commands")
    terminal.wait_for("> ")
    terminal.type("go on forever\n")
    terminal.wait_for("begun")
    terminal.interrupt()
    terminal.wait_for("(stopped)")
    terminal.wait_for("> ", times=2)
    terminal.type("and now?\n")
    terminal.wait_for("after 2 messages")  # what was shown of the first answer counts
    assert "\x1b" not in terminal.shown  # a model cannot clear the screen
    terminal.wait_for("> ", times=3)
    terminal.interrupt()
    assert terminal.close() == 130


def test_on_a_terminal_ctrl_d_leaves() -> None:
    terminal = OnATerminal(sys.executable, "-c", TALKER)
    terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.close() == 0
