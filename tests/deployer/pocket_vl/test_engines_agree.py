"""`pocket_vl` answers held-out questions alike whoever computes it, but where two tokens tie."""

import math
from typing import Any

import pytest
import torch
from wide_llama import TIES, Answer

from deployer import GenerationConfig, pipeline
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.held_out import Question, held_out_questions
from deployer.pocket_vl.painter import paint

END = 4  # <|im_end|>, which ends an answer and is not put out
GREEDY = GenerationConfig(temperature=0.0, max_new_tokens=48, logprobs=8)
ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]


def as_messages(question: Question, book: FontBook) -> list[dict[str, Any]]:
    """Return the conversation of a question, its picture behind the first text."""
    asked = [turn.question for turn in (*question.before, question.turn)]
    content: list[dict[str, Any]] = [{"type": "text", "text": asked[0]}]
    if question.scene is not None:
        picture = paint(question.scene, book)
        content.insert(0, {"type": "image_data", "image_data": {"data": picture}})
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    for turn, further in zip(question.before, asked[1:], strict=True):
        messages += [{"role": "assistant", "content": turn.answer}, {"role": "user", "content": further}]
    return messages


def answered(words: tuple[str, ...], prompts: list[list[dict[str, Any]]]) -> tuple[list[str], list[Answer]]:
    """Return the texts, and the tokens with the likeliest beside them."""
    with pipeline("pocket_vl", *words) as pipe:
        responses = pipe(prompts, GREEDY, progress=False)
    answers: list[Answer] = []
    for response in responses:
        assert response.logprobs is not None, "they were asked for"
        likeliest = [dict(zip(one.top_ids, one.top_logprobs, strict=True)) for one in response.logprobs]
        answers.append(list(zip(response.token_ids, likeliest, strict=True)))
    return [response.text for response in responses], answers


def lead_where_they_part(one: Answer, other: Answer) -> float | None:
    """Return by how much the token of one was likelier than the other's; None: they are equal."""
    tokens, theirs = ([*(token for token, _ in answer), END] for answer in (one, other))
    pairs = enumerate(zip(tokens, theirs, strict=False))
    place = next((i for i, (mine, wanted) in pairs if mine != wanted), None)
    if place is None:
        return None
    # An end has no entry: where one stops, the other says how likely that was.
    (token, likeliest), wanted = (one[place], theirs[place]) if place < len(one) else (other[place], END)
    return likeliest[token] - likeliest.get(wanted, -math.inf)


@pytest.mark.parametrize(
    ("one", "other", "total"),
    [
        (
            ("engine=pytorch", "engine.device_type=cpu", "engine.dtype=float32"),
            ("engine=pytorch", "engine.device_type=cpu", "engine.dtype=bfloat16"),
            24,
        ),
        pytest.param(
            ("engine=pytorch", "engine.device_type=cuda", "engine.dtype=bfloat16"),
            ("engine=turbomind", "engine.device_type=cuda", "engine.dtype=bfloat16"),
            600,
            marks=ON_GPU,
        ),
    ],
    ids=["number formats", "op tables"],
)
def test_answers_part_at_ties_alone(one: tuple[str, ...], other: tuple[str, ...], total: int) -> None:
    book = FontBook.system()
    questions = held_out_questions(total, book)
    prompts = [as_messages(question, book) for question in questions]
    (texts, answers), (other_texts, other_answers) = answered(one, prompts), answered(other, prompts)
    leads = [lead_where_they_part(*pair) for pair in zip(answers, other_answers, strict=True)]
    parted = [(question, lead) for question, lead in enumerate(leads) if lead is not None]
    right = [
        sum(text.strip() == question.turn.answer for text, question in zip(said, questions, strict=True))
        for said in (texts, other_texts)
    ]
    print(
        f"{total} questions: {right[0]} and {right[1]} right; answers that part, and by what lead: {parted}"
    )
    assert all(abs(lead) < TIES["bfloat16"] for _, lead in parted)
    assert len(parted) <= total // 50
    assert min(right) >= 0.95 * total
