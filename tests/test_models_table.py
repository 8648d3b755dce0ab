"""A tick of docs/models.md stops being there where it stops being true."""

from models_table import LOOPS, PREPROCESS, TICK, TWO_IMAGES, known_tests, table, written_table

from engines.families import known_families


def test_the_document_says_what_the_fixtures_hold() -> None:
    assert written_table() == table(), "run tests/support/models_table.py"


def test_every_family_is_there_with_numbers_of_a_reference() -> None:
    rows = [line.split(" | ") for line in written_table().splitlines()[2:]]
    assert [row[0].strip("| `") for row in rows] == list(known_families())
    for row in rows:
        assert row[3:6] == [TICK] * 3, row


def test_tests_behind_ticks_exist() -> None:
    behind = {*PREPROCESS.values(), *LOOPS.values()}
    assert behind <= known_tests()
    assert set(PREPROCESS) == set(known_families()) - {"text"}


def test_reasons_stand_only_where_there_is_no_tick() -> None:
    ticked = {
        line.split(" | ")[0].strip("| `") for line in table().splitlines() if line.split(" | ")[6] == TICK
    }
    assert not ticked & set(TWO_IMAGES)
