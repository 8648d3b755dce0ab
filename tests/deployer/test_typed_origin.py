"""Messages about values that were typed name the word that set them."""

from typing import Any

import pytest

from deployer.cli import main
from deployer.typed_origin import with_origin


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("a.b=3: must be at least 4", "a.b=3 (command line `a.b=3`): must be at least 4"),
        ("c.d=x: no", "c.d=x (command line `+c.d=x`): no"),
        ("a.b=3 (command line `a.b=3`): no", "a.b=3 (command line `a.b=3`): no"),
        ("a.b=33: no", "a.b=33: no"),
        ("e.f=1: a default", "e.f=1: a default"),
        ("g.h=1: of an option", "g.h=1 (command line `g=chosen`): of an option"),
        ("nothing of the kind", "nothing of the kind"),
    ],
)
def test_the_word_is_named_where_it_set_the_value(line: str, told: str) -> None:
    assert with_origin(line, ["bench", "a.b=2", "a.b=3", "+c.d=x", "g=chosen"]) == told


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (
            ["bench", "+model=pocket_vl", "bench.requests=-4"], 3,
            "error: bench.requests=-4 (command line `bench.requests=-4`): must be at least 1",
        ),
        (
            ["evaluate", "+model=pocket_vl", "evaluate.questions=0"], 3,
            "error: evaluate.questions=0 (command line `evaluate.questions=0`): must be at least 1",
        ),
        (
            ["+model=pocket_vl", "server.host=999.1.1.1", "server.port=0"], 6,
            "error: server.host=999.1.1.1 (command line `server.host=999.1.1.1`): no such address here",
        ),
    ],
)  # fmt: skip
def test_options_and_addresses_out_of_range_name_their_flag(
    words: list[str], code: int, told: str, capsys: Any
) -> None:
    assert main(words) == code
    assert capsys.readouterr().err.startswith(told)
