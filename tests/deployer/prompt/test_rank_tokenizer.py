"""GLM-4's vocabulary format: merging by rank, words, control tokens, broken files."""

import base64
import json
import random
from itertools import pairwise
from pathlib import Path

import pytest

from deployer.prompt.json_tokenizer import JsonTokenizer
from deployer.prompt.tokenizer import decode, load_tokenizer
from engines.errors import CheckpointError

WORDS = [
    "the",
    " the",
    "then",
    "he",
    "th",
    "en",
    "12",
    "123",
    "23",
    " a",
    "ab",
    "abc",
    "bc",
    "中",
    "\n\n",
    "ä",
]
CONTROL = ["<|endoftext|>", "[gMASK]", "<sop>", "<|user|>"]


def ranks() -> dict[bytes, int]:
    """Return all bytes in an order that is not theirs, then words that grow from them."""
    order = list(range(256))
    random.Random(4).shuffle(order)
    tokens = [bytes([byte]) for byte in order]
    for word in sorted(WORDS, key=lambda word: len(word.encode())):
        data = word.encode()
        tokens += [data[:cut] for cut in range(2, len(data) + 1) if data[:cut] not in tokens]
    return {token: rank for rank, token in enumerate(dict.fromkeys(tokens))}


def merged(word: bytes, known: dict[bytes, int]) -> list[int]:
    """Merge the neighbours of lowest rank until none is left."""
    parts = [word[i : i + 1] for i in range(len(word))]
    while True:
        found = [(known[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if a + b in known]
        if not found:
            return [known[part] for part in parts]
        _, i = min(found)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]


def write(folder: Path, known: dict[bytes, int], *, tokenizer_class: str = "ChatGLM4Tokenizer") -> Path:
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in known.items()]
    (folder / "tokenizer.model").write_text("".join(lines))
    added = {
        str(len(known) + number): {"content": text, "special": True} for number, text in enumerate(CONTROL)
    }
    config = {
        "tokenizer_class": tokenizer_class,
        "added_tokens_decoder": added,
        "additional_special_tokens": CONTROL[1:],
        "eos_token": "<|endoftext|>",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture
def tokenizer(tmp_path: Path) -> JsonTokenizer:
    found = load_tokenizer(write(tmp_path, ranks()))
    assert isinstance(found, JsonTokenizer)
    return found


@pytest.mark.parametrize(
    "word", ["then", " then", "the", "thee", "abcabc", "123", "中", "ä", "\n\n", "\n\n\n", "x", "the中"]
)
def test_neighbours_merge_by_rank(tokenizer: JsonTokenizer, word: str) -> None:
    assert tokenizer.encode(word, special=True) == merged(word.encode(), ranks())


def test_a_text_is_cut_into_words_and_numbers_of_three_digits(tokenizer: JsonTokenizer) -> None:
    words = ["the", " then", " ", "123", "123", "!", "\n\n", "ab", "'s"]
    wanted = [token for word in words for token in merged(word.encode(), ranks())]
    assert tokenizer.encode("".join(words), special=False) == wanted


def test_control_tokens_stand_behind_the_vocabulary(tokenizer: JsonTokenizer) -> None:
    first = len(ranks())
    ids = tokenizer.encode("[gMASK]<sop><|user|>\nthe", special=True)
    assert ids == [first + 1, first + 2, first + 3, ranks()[b"\n"], ranks()[b"the"]]
    assert (tokenizer.bos_id, tokenizer.eos_id) == (None, first)
    assert decode(tokenizer, ids) == "\nthe"
    assert set(tokenizer.special_ids) == set(range(first, first + 4))


def test_bytes_come_back(tokenizer: JsonTokenizer) -> None:
    text = "the 中文 ä\t12345\r\n  🙂"
    assert decode(tokenizer, tokenizer.encode(text, special=False)) == text


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("line", "line 3: must be a token in base64 and its rank"),
        ("bytes", "must hold every byte as a token, 1 are missing"),
        ("class", "tokenizer_class `OtherTokenizer`"),
    ],
)
def test_a_broken_vocabulary_is_refused(tmp_path: Path, fault: str, message: str) -> None:
    known = ranks()
    if fault == "bytes":
        del known[b"z"]
    write(tmp_path, known, tokenizer_class="OtherTokenizer" if fault == "class" else "ChatGLM4Tokenizer")
    if fault == "line":
        path = tmp_path / "tokenizer.model"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([*lines[:2], "!! 2", *lines[3:]]))
    with pytest.raises(CheckpointError, match=message):
        load_tokenizer(tmp_path)


def qwen(folder: Path) -> JsonTokenizer:
    known = ranks()
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in known.items()]
    (folder / "qwen.tiktoken").write_text("".join(lines))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "QWenTokenizer"}')
    found = load_tokenizer(folder)
    assert isinstance(found, JsonTokenizer)
    return found


def test_qwens_control_tokens_stand_behind_its_ranks(tmp_path: Path) -> None:
    """In the release there are 151,643 ranks, `<img>` is 151857 and `<imgpad>` the last, 151859."""
    found, count = qwen(tmp_path), len(ranks())
    wanted = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<|extra_204|>": 207}
    wanted |= {"<ref>": 208, "<img>": 214, "</img>": 215, "<imgpad>": 216}
    assert {token: found.token_to_id(token) for token in wanted} == {
        token: count + number for token, number in wanted.items()
    }
    assert (found.vocab_size, found.eos_id, found.bos_id) == (count + 217, count, None)
    assert found.encode("<img>ab</img>", special=True)[::2] == [count + 214, count + 215]


def test_qwens_texts_are_composed_and_digits_stand_alone(tmp_path: Path) -> None:
    found, known = qwen(tmp_path), ranks()
    assert found.encode("a\u0308", special=False) == [known["ä".encode()]]
    assert found.encode("123", special=False) == [known[digit] for digit in (b"1", b"2", b"3")]
    assert decode(found, found.encode("then 12ä\n\n", special=False)) == "then 12ä\n\n"
