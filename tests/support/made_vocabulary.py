"""A checkpoint folder without weights, its vocabulary made up: for loads over HTTP where no file is had.

    python tests/support/made_vocabulary.py FOLDER +model=MODEL [OVERRIDE ...]

The network is then that of the model option (`engine.load_format=random`), config.json its hyper-parameters,
and every id has a text of its own: a space and two to eight letters, as an answer's words have, so that to
make text of an answer costs the server what it costs with the released vocabulary.

    deploy bench +model=MODEL model.hub=folder model.path=FOLDER engine.load_format=random \\
        bench=trace bench.through=both
"""

import json
import random
import string
import sys
from collections.abc import Sequence
from pathlib import Path

from deployer.config.hyper_parameters import without_factor_lists
from deployer.config.load import load_config

CONTROL = ("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")


def write_folder(folder: Path, words: Sequence[str]) -> None:
    """Write the files; `words` as on a command line."""
    parameters = without_factor_lists(load_config(words).model.hyper_parameters or {})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(parameters))
    decoder = parameters.get("llm_config", parameters)
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary(decoder["vocab_size"])))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    )


def vocabulary(size: int) -> dict[str, object]:
    """Return a tokenizer.json of so many tokens; it encodes letters one by one, as it has no merges."""
    chance = random.Random(0)
    letters = [*"Ġ\n" + string.ascii_letters + string.digits + string.punctuation]
    tokens = dict.fromkeys([*CONTROL, *letters])
    while len(tokens) < size:
        tokens["Ġ" + "".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 8)))] = None
    added = [
        {
            "id": number, "content": name, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True,
        }
        for number, name in enumerate(CONTROL)
    ]  # fmt: skip
    model = {
        "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "merges": [],
        "vocab": {token: number for number, token in enumerate(tokens)},
    }  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level, "model": model,
    }  # fmt: skip


if __name__ == "__main__":
    write_folder(Path(sys.argv[1]), sys.argv[2:])
