"""Exits in words, and the reasons that processes leave."""

import signal
from pathlib import Path

import pytest

from engines.ipc.last_words import SCHEME, last_words, leave_last_words, manner_of_death


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with code 0"),
        (3, "ended with code 3"),
        (-9, "was ended by signal 9 (SIGKILL)"),
        (-signal.SIGRTMIN - 5, f"was ended by signal {signal.SIGRTMIN + 5}"),
    ],
)
def test_an_exit_is_told_by_its_code_or_by_the_number_and_name_of_its_signal(code: int, words: str) -> None:
    assert manner_of_death(code) == words


def test_words_are_found_by_the_socket_of_the_process_that_left_them(tmp_path: Path) -> None:
    own, other = f"{SCHEME}{tmp_path}/rank1", f"{SCHEME}{tmp_path}/rank2"
    leave_last_words(own, "no memory")
    assert (last_words(own), last_words(other)) == ("no memory", None)
