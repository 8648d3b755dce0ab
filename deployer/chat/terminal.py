"""The conversation itself: lines in, answers out; a terminal or a pipe.

On a terminal there is a prompt, and Ctrl-C stops an answer, or leaves where none is being given. From a pipe
every line is a question, standard output holds the answers alone, and the exit code says whether all came.
"""

import sys
from contextlib import closing
from typing import TextIO

from deployer.chat.partner import Partner
from deployer.config.suggest import way_out
from deployer.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_UNAVAILABLE, DeployError
from deployer.prompt.messages import ImageSource, Message
from deployer.table import paint
from engines.errors import EngineError, RequestError

PROMPT = "> "
COMMANDS = {
    "/image": "PATH or URL: show a picture with the next question",
    "/clear": "forget the conversation and its pictures",
    "/help": "list the commands",
    "/exit": "leave, as does Ctrl-D",
}


class Terminal:
    """One conversation with one partner."""

    def __init__(self, partner: Partner, *, lines: TextIO, out: TextIO, messages: TextIO) -> None:
        self._partner = partner
        self._lines = lines
        self._out = out
        self._messages = messages
        self._interactive = lines.isatty() and out.isatty()
        self._history: list[Message] = []
        self._pictures: list[ImageSource] = []
        self._failures = 0

    def run(self) -> int:
        """Talk until /exit, the end of input, or Ctrl-C between answers; returns the exit code."""
        if self._interactive:
            _edit_lines()
            self._say(f"{self._partner.name}; /help lists the commands", "dim")
        try:
            while (line := self._read()) is not None and self._take(line.strip()):
                pass
        except KeyboardInterrupt:
            self._say("", "dim")
            return EXIT_INTERRUPTED
        return EXIT_UNAVAILABLE if self._failures and not self._interactive else EXIT_OK

    def _read(self) -> str | None:
        """Return the next line; None at the end of input."""
        if not self._interactive:
            return self._lines.readline() or None
        try:
            return input(PROMPT)
        except EOFError:
            print(file=self._out)
            return None

    def _take(self, line: str) -> bool:
        """Do what a line says; False where it ends the conversation."""
        command, _, rest = line.partition(" ")
        if command == "/exit":
            return False
        if command == "/help":
            for name, meaning in COMMANDS.items():
                self._say(f"{name:8}{meaning}", "dim")
        elif command == "/clear":
            self._history.clear()
            self._pictures.clear()
        elif command == "/image":
            self._add_picture(rest.strip().strip("'\""))
        elif line.startswith("/"):
            self._fail(f"unknown command `{command}`: {way_out(command, COMMANDS, kind='commands')}")
        elif line:
            self._ask(line)
        return True

    def _add_picture(self, place: str) -> None:
        if not place:
            self._fail("/image: names no picture; write /image PATH or /image URL")
            return
        try:
            self._pictures.append(self._partner.picture(place))
        except RequestError as error:
            self._fail(str(error))

    def _ask(self, text: str) -> None:
        """Ask, show the answer while it comes, and remember both; of a failed question nothing is kept."""
        question = Message.of("user", text, *self._pictures)
        shown: list[str] = []
        try:
            with closing(self._partner.answer([*self._history, question])) as pieces:
                for piece in pieces:
                    shown.append(piece)
                    self._show(piece)
        except KeyboardInterrupt:
            if not self._interactive:
                raise
            self._say(" (stopped)", "dim")
        except (DeployError, EngineError) as error:
            self._show("\n" if shown else "")
            self._fail(str(error))
            return
        else:
            self._show("\n")
        self._pictures.clear()
        answer = "".join(shown)
        if answer:
            self._history += [question, Message.of("assistant", answer)]

    def _show(self, text: str) -> None:
        """Write a piece of an answer; a terminal gets no control characters that a model may have written."""
        self._out.write(_harmless(text) if self._out.isatty() else text)
        self._out.flush()

    def _fail(self, text: str) -> None:
        self._failures += 1
        for line in text.splitlines():
            print(f"{paint('error:', 'red', out=self._messages)} {line}", file=self._messages)

    def _say(self, text: str, style: str) -> None:
        print(paint(text, style, out=self._messages), file=self._messages)


def _harmless(text: str) -> str:
    return "".join(char for char in text if char in "\n\t" or (char >= " " and not "\x7f" <= char <= "\x9f"))


def _edit_lines() -> None:
    """Give `input` history and editing keys where this Python has them."""
    if "readline" not in sys.modules:
        try:
            import readline  # noqa: F401  # importing it is what it takes
        except ImportError:
            return
