import json
from dataclasses import replace
from io import StringIO

import pytest

from deployer.errors import ConfigError
from deployer.pocket_vl.accuracy import Answer, print_accuracy, rows
from deployer.pocket_vl.evaluate_options import EvaluateOptions, check_options
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.held_out import Question, held_out_questions
from deployer.pocket_vl.turns import Turn

OPTIONS = EvaluateOptions(
    questions=4, first_picture=0, concurrency=1, max_new_tokens=8, fonts=None, wrong=2, output="table"
)


def answer(kind: str, text: str, *, unseen: bool = False) -> Answer:
    turn = Turn(kind=kind, question="What?", answer="red")
    question = Question(scene=None, scene_number=3, combinations=unseen, before=(), turn=turn)
    return Answer(question=question, text=text)


ANSWERS = [
    answer("colour", "red"),
    answer("colour", "Red"),
    answer("count", "red", unseen=True),
    answer("count", ""),
]


def test_an_answer_is_right_to_the_letter_and_counted_by_kind() -> None:
    found = {row.kind: (row.right, row.asked) for row in rows(ANSWERS)}
    assert found == {
        "colour": (1, 2),
        "count": (1, 2),
        "familiar combinations": (1, 3),
        "unseen combinations": (1, 1),
        "all": (2, 4),
    }


def test_the_report_is_a_table_or_json_with_the_wrong_answers() -> None:
    table, data = StringIO(), StringIO()
    print_accuracy(ANSWERS, {"model": "m"}, OPTIONS, out=table)
    assert "50.0%" in table.getvalue() and "2 of 2 wrong answers" in table.getvalue()
    print_accuracy(ANSWERS, {"model": "m"}, replace(OPTIONS, output="json"), out=data)
    report = json.loads(data.getvalue())
    assert report["rows"][-1] == {"kind": "all", "asked": 4, "right": 2, "accuracy": 0.5}
    assert [wrong["said"] for wrong in report["wrong"]] == ["Red", ""]


def test_the_questions_are_the_same_every_time_and_of_every_kind() -> None:
    book = FontBook([])
    first, again = held_out_questions(400, book), held_out_questions(400, book)
    assert first == again
    assert held_out_questions(100, book) == first[:100]
    from_fifth = [question for question in first if question.scene_number >= 5]
    assert held_out_questions(50, book, first_picture=5) == from_fifth[:50]
    kinds = {question.turn.kind for question in first}
    assert {
        "colour",
        "shape",
        "count",
        "relation",
        "read_word",
        "read_number",
        "absent",
        "follow_up",
    } <= kinds
    assert {"between", "size", "no_picture", "small_talk", "describe", "where", "exists"} <= kinds
    assert 0.3 < sum(question.combinations for question in first) / len(first) < 0.6


def test_a_follow_up_comes_with_what_was_said_before() -> None:
    for question in held_out_questions(300, FontBook([])):
        assert bool(question.before) == (question.turn.kind == "follow_up")


def test_all_bad_options_are_told_at_once() -> None:
    bad = EvaluateOptions(
        questions=0,
        first_picture=-1,
        concurrency=0,
        max_new_tokens=1,
        fonts="/nowhere",
        wrong=-1,
        output="table",
    )
    with pytest.raises(ConfigError) as error:
        check_options(bad)
    assert len(error.value.faults) == 5
    assert "evaluate.questions=0: must be at least 1" in error.value.faults
