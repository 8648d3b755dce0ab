from pathlib import Path

import pytest

from deployer.pocket_vl.build_vocabulary import SIZE, texts
from deployer.pocket_vl.prompts import PromptCoder
from deployer.pocket_vl.turns import Turn
from deployer.pocket_vl.vocabulary import ROLES, SPECIAL, build_tokenizer, load_vocabulary

SHIPPED = Path(__file__).parents[3] / "deployer" / "models" / "pocket_vl" / "tokenizer.json"
TEXTS = (
    "What colour is the circle?",
    "There is no purple triangle.",
    "the number 42 and the word STOP",
    "Ünïcode, 你好, \n tabs\t and  spaces ",
    "",
)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_comes_back_from_its_tokens(text: str) -> None:
    for tokenizer in (load_vocabulary(SHIPPED), build_tokenizer(texts(), size=SIZE)):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids) == text


def test_printed_strings_are_spelled_letter_by_letter() -> None:
    tokenizer = load_vocabulary(SHIPPED)
    for word in ("STOP", "exit", "2047", "red"):
        assert tokenizer.encode(word, add_special_tokens=False).tokens == list(word)


def test_control_tokens_and_roles_are_one_token_each() -> None:
    tokenizer = load_vocabulary(SHIPPED)
    for token in (*SPECIAL, *ROLES):
        assert len(tokenizer.encode(token, add_special_tokens=False).ids) == 1
    assert tokenizer.encode("Hi").tokens[0] == "<s>"
    assert tokenizer.get_vocab_size() <= 2048


def test_a_vocabulary_is_built_alike_every_time() -> None:
    assert build_tokenizer(texts(), size=SIZE).to_str() == build_tokenizer(texts(), size=SIZE).to_str()


def test_the_pieces_of_a_prompt_are_the_tokens_of_the_whole_string() -> None:
    tokenizer = load_vocabulary(SHIPPED)
    coder = PromptCoder(tokenizer, rows_per_tile=2)
    turns = [
        Turn(kind="colour", question="What colour is it?", answer="red"),
        Turn(kind="shape", question="Why?", answer=""),
    ]
    pieces = (*coder.opening("Be brief."), *coder.picture(2), *coder.turns(turns).ids[:-1])
    slot = "<img>" + 4 * "<IMG_CONTEXT>" + "</img>\n"
    whole = (
        f"<|im_start|>system\nBe brief.<|im_end|><|im_start|>user\n{slot}What colour is it?<|im_end|>"
        "<|im_start|>assistant\nred<|im_end|><|im_start|>user\nWhy?<|im_end|><|im_start|>assistant\n"
    )
    assert list(pieces) == tokenizer.encode(whole).ids
