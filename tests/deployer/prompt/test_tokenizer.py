"""Every tokenizer layout: ids against the slow tokenizers of the releases, bytes against the text."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from prompt_setup import TOKENIZERS

from deployer.prompt.tokenizer import decode, load_tokenizer
from engines.errors import CheckpointError

LAYOUTS = ["byte_level", "internlm2", "llama", "phi3", "qwen2"]
SLOW_IDS = json.loads((TOKENIZERS / "slow_ids.json").read_text("utf-8"))
TEXTS = [text for text, *_ in SLOW_IDS["qwen2"]]


def copied(layout: str, folder: Path, **config: Any) -> Path:
    """Return a copy of a layout with keys of tokenizer_config.json changed."""
    shutil.copytree(TOKENIZERS / layout, folder, dirs_exist_ok=True)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **config}), encoding="utf-8")
    return folder


@pytest.mark.parametrize("layout", ["internlm2", "llama", "phi3", "qwen2"])
def test_ids_are_the_slow_tokenizer_s(layout: str) -> None:
    tokenizer = load_tokenizer(TOKENIZERS / layout)
    for text, with_special, plain in SLOW_IDS[layout]:
        assert tokenizer.encode(text, special=True) == with_special, text
        assert tokenizer.encode(text, special=False) == plain, text


def test_a_tokenizer_json_encodes_as_its_library_does() -> None:
    tokenizer = load_tokenizer(TOKENIZERS / "byte_level")
    library = tokenizers.Tokenizer.from_file(str(TOKENIZERS / "byte_level" / "tokenizer.json"))
    for text in TEXTS:
        assert tokenizer.encode(text, special=True) == library.encode(text).ids
        ids = tokenizer.encode(text, special=False)
        assert decode(tokenizer, ids, skip_special_tokens=False) == library.decode(
            ids, skip_special_tokens=False
        )


@pytest.mark.parametrize("layout", ["byte_level", "internlm2", "qwen2"])
def test_decoding_gives_the_text_back(layout: str) -> None:
    tokenizer = load_tokenizer(TOKENIZERS / layout)
    for text in TEXTS:
        if "▁" in text or (layout == "qwen2" and "\u0301" in text):
            continue  # SentencePiece's own space; Qwen2 composes accents
        assert decode(tokenizer, tokenizer.encode(text, special=False), skip_special_tokens=False) == text


@pytest.mark.parametrize("layout", ["llama", "phi3"])
def test_the_space_that_opens_a_text_is_not_given_back(layout: str) -> None:
    tokenizer = load_tokenizer(TOKENIZERS / layout)
    for text in ("Hello, world!", " leading", "two  spaces\tand", "日本語🙂", ""):
        assert decode(tokenizer, tokenizer.encode(text, special=True)) == text


@pytest.mark.parametrize("layout", LAYOUTS)
def test_control_tokens_are_skipped_or_shown(layout: str) -> None:
    tokenizer = load_tokenizer(TOKENIZERS / layout)
    ids = tokenizer.encode("a<|im_end|>", special=False)
    assert decode(tokenizer, ids).strip() == "a"
    assert decode(tokenizer, ids, skip_special_tokens=False).strip() == "a<|im_end|>"
    assert tokenizer.token_to_id("<|im_end|>") == ids[-1]
    assert tokenizer.token_to_id("no such token") is None
    assert tokenizer.token_bytes(tokenizer.vocab_size) == tokenizer.token_bytes(10**9) == b""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ids_of_bytes_undo_the_bytes_of_ids(layout: str) -> None:
    tokenizer = load_tokenizer(TOKENIZERS / layout)
    for token_id in range(tokenizer.vocab_size):
        data = tokenizer.token_bytes(token_id)
        if data and token_id not in tokenizer.special_ids:
            assert token_id in tokenizer.ids_of(data)
    for data in (b"circle", b" ", b"\xe4", b"<s>"):
        assert all(tokenizer.token_bytes(token_id) == data for token_id in tokenizer.ids_of(data))


@pytest.mark.parametrize("layout", ["llama", "byte_level"])
def test_add_bos_token_decides_where_it_is_set(layout: str, tmp_path: Path) -> None:
    for add_bos in (True, False):
        tokenizer = load_tokenizer(copied(layout, tmp_path, add_bos_token=add_bos))
        assert (tokenizer.encode("a", special=True)[0] == tokenizer.bos_id) is add_bos


def test_eos_is_added_where_the_checkpoint_wants_it(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(copied("llama", tmp_path, add_eos_token=True))
    assert tokenizer.encode("a", special=True)[-1] == tokenizer.eos_id


def test_tokens_of_added_tokens_json_are_placed(tmp_path: Path) -> None:
    folder = copied(
        "internlm2", tmp_path, added_tokens_decoder={}, additional_special_tokens=["<|im_start|>"]
    )
    (folder / "added_tokens.json").write_text('{"<|im_start|>": 460, "<plain>": 461}')
    tokenizer = load_tokenizer(folder)
    assert tokenizer.encode("<|im_start|><plain></s>", special=False) == [460, 461, 2]
    assert 460 in tokenizer.special_ids and 461 not in tokenizer.special_ids


def test_a_control_token_without_an_id_is_named(tmp_path: Path) -> None:
    folder = copied("internlm2", tmp_path, additional_special_tokens=["<|b|>", "<|a|>"])
    with pytest.raises(CheckpointError, match=r"control tokens without an id: `<\|a\|>`, `<\|b\|>`"):
        load_tokenizer(folder)


def test_control_tokens_that_do_not_fit_the_vocabulary_are_named(tmp_path: Path) -> None:
    entry = {"content": "<x>", "special": True}
    with pytest.raises(
        CheckpointError, match=r"do not fit the vocabulary of .*vocab.json: `<x>` at 7, not 400"
    ):
        load_tokenizer(copied("qwen2", tmp_path, added_tokens_decoder={"7": entry}))


def test_tokenizer_model_comes_before_tokenizer_json(tmp_path: Path) -> None:
    copied("llama", copied("byte_level", tmp_path))
    assert load_tokenizer(tmp_path).drops_first_space


def test_what_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"no tokenizer in .*: one of `tokenizer.json`, `tokenizer.model`"
    ):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(
        CheckpointError,
        match=r"tokenizer.json is no vocabulary that `tokenizers` reads: Model missing",
    ):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"tokenizer.model is not a SentencePiece model"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer_config.json cannot be read as JSON"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (
            b'{"version": "1.0",\n "model": {"vo',
            r"cannot be read as JSON: Unterminated .*line 2 column 12",
        ),
        (b"", r"cannot be read as JSON: Expecting value: line 1 column 1"),
        (b'{"a": "\xff"}', r"cannot be read as JSON: .*byte 0xff in position 7"),
        (b"version https://git-lfs.github.com/spec/v1\noid x", r"is a Git LFS pointer.*`git lfs pull`"),
        (b"[]", r"holds a list: it must be an object"),
        (b'{"model": {"type": "BPE", "vocab": {"a": "b"}, "merges": []}}', r"expected u32 at line 1 column"),
    ],
)
def test_where_a_vocabulary_is_broken_is_told(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "tokenizer.json").write_bytes(data)
    with pytest.raises(CheckpointError, match=f"tokenizer.json .*{told}"):
        load_tokenizer(tmp_path)


def test_a_vocabulary_that_may_not_be_opened_is_not_called_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied("byte_level", tmp_path) / "tokenizer.json"
    opened = Path.read_text

    def refused(self: Path, *given: Any, **how: Any) -> str:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return opened(self, *given, **how)

    monkeypatch.setattr(Path, "read_text", refused)
    path.write_bytes(b"")  # what the library says of one that it cannot open is no JSON either
    with pytest.raises(CheckpointError, match=r"cannot be opened: Permission denied; let the user of this"):
        load_tokenizer(tmp_path)


def test_another_class_of_vocab_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"tokenizer_class `Blenderbot`.*GPT2Tokenizer or Qwen2Tokenizer"
    ):
        load_tokenizer(copied("qwen2", tmp_path, tokenizer_class="Blenderbot"))


def test_a_decoder_that_is_not_bytes_is_refused(tmp_path: Path) -> None:
    path = copied("byte_level", tmp_path) / "tokenizer.json"
    path.write_text(
        json.dumps(
            {
                **json.loads(path.read_text("utf-8")),
                "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            }
        )
    )
    with pytest.raises(CheckpointError, match=r"decoder of .* \(`WordPiece`\): must be byte-level"):
        load_tokenizer(tmp_path)


def test_padding_and_truncation_of_a_file_are_off(tmp_path: Path) -> None:
    path = copied("byte_level", tmp_path) / "tokenizer.json"
    library = tokenizers.Tokenizer.from_file(str(path))
    library.enable_truncation(4)
    library.enable_padding(length=16)
    library.save(str(path))
    text = "a b c d e f g h"
    expected = load_tokenizer(TOKENIZERS / "byte_level").encode(text, special=False)
    assert load_tokenizer(tmp_path).encode(text, special=False) == expected
