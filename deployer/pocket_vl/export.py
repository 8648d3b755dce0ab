"""From what a training run left to a checkpoint folder that any InternVL2 loader reads.

python -m deployer.pocket_vl.export RUN TOKENIZER FOLDER
"""

import json
import shutil
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deployer.pocket_vl.checkpoint_config import checkpoint_config, generation_config, tokenizer_config
from deployer.pocket_vl.sizes import Sizes
from deployer.pocket_vl.vocabulary import BOS, EOS, TURN_END, load_vocabulary

PARTS = ("language", "vision")
SIZES_FILE = "sizes.json"
_VOCAB_MULTIPLE = 64


def vocab_rows(tokenizer_file: Path) -> int:
    """Return the rows of the embedding that go with a vocabulary."""
    num_tokens = load_vocabulary(tokenizer_file).get_vocab_size()
    return -(-num_tokens // _VOCAB_MULTIPLE) * _VOCAB_MULTIPLE


def write_parts(tensors: dict[str, Tensor], folder: Path) -> None:
    """Write the weights in bf16, as two files of which none is large."""
    for part in PARTS:
        chosen = {n: t for n, t in tensors.items() if n.startswith("language_model.") == (part == "language")}
        save_file(_halved(chosen), folder / f"{part}.safetensors", metadata={"format": "pt"})


def read_parts(folder: Path) -> dict[str, Tensor]:
    """Return the weights that `write_parts` wrote."""
    return {name: t for part in PARTS for name, t in load_file(folder / f"{part}.safetensors").items()}


def write_checkpoint(tensors: dict[str, Tensor], sizes: Sizes, tokenizer_file: Path, folder: Path) -> None:
    """Write the whole folder: weights in bf16, vocabulary, configs."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_halved(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    if tokenizer_file.resolve() != (folder / "tokenizer.json").resolve():
        shutil.copyfile(tokenizer_file, folder / "tokenizer.json")
    ids = load_vocabulary(tokenizer_file).get_vocab(with_added_tokens=True)
    files = {
        "config.json": checkpoint_config(sizes, bos_id=ids[BOS], eos_id=ids[TURN_END]),
        "generation_config.json": generation_config(bos_id=ids[BOS], eos_ids=[ids[TURN_END], ids[EOS]]),
        "tokenizer_config.json": tokenizer_config(sizes),
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def _halved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", torch.bfloat16).contiguous() for name, tensor in tensors.items()}


def main(words: Sequence[str]) -> None:
    """Write the checkpoint of a run."""
    parser = ArgumentParser(prog="python -m deployer.pocket_vl.export")
    parser.add_argument("run", metavar="RUN", type=Path, help="folder that training wrote (`out=`)")
    parser.add_argument("tokenizer", metavar="TOKENIZER", type=Path, help="its tokenizer.json")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="checkpoint to write")
    asked = parser.parse_args(words)
    missing = [file for file in (asked.run / SIZES_FILE, asked.tokenizer) if not file.is_file()]
    if missing:
        parser.error(f"there is no {', '.join(f'`{file}`' for file in missing)}")
    write_checkpoint(read_parts(asked.run), Sizes.load(asked.run / SIZES_FILE), asked.tokenizer, asked.folder)


if __name__ == "__main__":
    main(sys.argv[1:])
