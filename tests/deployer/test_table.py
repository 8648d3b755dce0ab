import io

import pytest

from deployer.table import paint, print_about, print_table, wants_colour


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_columns_are_as_wide_as_what_they_hold_and_numbers_stand_right() -> None:
    out = io.StringIO()
    print_table(["name", "us"], [["rope", "9.5"], ["attention", "120"]], out=out)
    assert out.getvalue() == "name        us\nrope       9.5\nattention  120\n"


def test_a_table_without_rows_has_its_heads() -> None:
    out = io.StringIO()
    print_table(["name", "us"], [], out=out)
    assert out.getvalue() == "name  us\n"


def test_what_stands_above_a_table_is_set_in_two_columns() -> None:
    out = io.StringIO()
    print_about({"gpu": "H200", "commit": "abc"}, out=out)
    assert out.getvalue() == "gpu     H200\ncommit  abc\n\n"


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert paint("x", "red", out=Terminal()) == "\033[31mx\033[0m"
    assert paint("x", "red", out=io.StringIO()) == "x"
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())
