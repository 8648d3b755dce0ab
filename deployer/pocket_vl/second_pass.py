"""A short second pass over pairs of colour and shape that a first training left out; runs on a CPU.

`python -m deployer.pocket_vl.second_pass RUN TOKENIZER OUT steps=140`. Starts from the weights in RUN
and takes small steps on pictures that mostly hold such a pair: three of four steps see eight small
pictures, the others a small and a whole one. Made for the first weights of this repository, whose
training held eight pairs out; a training with today's `train.py`, which holds none out, needs no second
pass.
"""

import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import torch

from deployer.pocket_vl.export import read_parts, sizes_for, write_parts
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.prompts import PromptCoder
from deployer.pocket_vl.samples import Batch, Batches, Sample, collate
from deployer.pocket_vl.sampling import Level, model_pixels, sample_scene
from deployer.pocket_vl.training_options import Options
from deployer.pocket_vl.training_run import Run
from deployer.pocket_vl.vocabulary import load_vocabulary

LEFT_OUT = frozenset(
    {
        ("brown", "heart"),
        ("brown", "star"),
        ("cyan", "cross"),
        ("cyan", "triangle"),
        ("gray", "heart"),
        ("purple", "circle"),
        ("white", "oval"),
        ("yellow", "oval"),
    }
)
OTHERS = 0.12  # share of pictures without such a pair that are kept
WARMUP, RATE = 8, 2.5e-4
SEEDS: dict[Level, int] = {"easy": 11 << 40, "any": 12 << 40}


class Chooser:
    """Draws samples, mostly with a pair that was left out."""

    def __init__(self, coder: PromptCoder, book: FontBook, patch: int) -> None:
        self._book = book
        self._rng = Random(0)
        self._next = dict(SEEDS)
        self._batches = {
            level: Batches(
                seed=0,
                count=0,
                size=1,
                book=book,
                coder=coder,
                pixels=model_pixels(max_tiles=1) if level == "easy" else model_pixels(),
                patch=patch,
                text_tokens=200,
                level=level,
            )
            for level in SEEDS
        }

    def take(self, level: Level) -> Sample:
        """Return the next sample of a level."""
        while True:
            self._next[level] += 1
            scene = sample_scene(self._next[level], self._book, level)
            wanted = any((shape.colour, shape.kind) in LEFT_OUT for shape in scene.shapes)
            if wanted or self._rng.random() < OTHERS:
                return self._batches[level].sample(self._next[level])


def second_pass(weights: Path, tokenizer: Path, out: Path, *, fonts: Path, steps: int) -> None:
    """Read weights, take the steps, write weights."""
    options = replace(
        Options(), device="cpu", compile=False, lr=RATE, warmup=WARMUP, fonts=fonts, tokenizer=tokenizer
    )
    sizes = sizes_for(tokenizer)
    coder = PromptCoder(load_vocabulary(tokenizer), rows_per_tile=sizes.rows_per_tile)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "train.log").open("w") as log:
        run = Run(options, sizes, log)
        run.model.load_state_dict(read_parts(weights))
        for master, parameter in zip(run.masters, run.parameters, strict=True):
            master.data.copy_(parameter.data.float())
        chooser = Chooser(coder, FontBook.open(fonts), sizes.patch)
        for step in range(steps):
            levels: list[Level] = ["any", "easy"] if step % 4 == 0 else ["easy"] * 8
            batch = Batch.of(
                collate([chooser.take(level) for level in levels]).tensors(), torch.device("cpu")
            )
            rate = RATE * min(1.0, (step + 1) / WARMUP) * (1 - step / steps)
            loss, _ = run.step(batch, coder.row_id, rate=rate, dense_weight=0.0)
            run.say(f"step {step} {run.elapsed:.0f} s answers {float(loss):.4f}")
        write_parts(run.model.state_dict(), out)


if __name__ == "__main__":
    source, vocabulary, target = (Path(argument) for argument in sys.argv[1:4])
    count = next((int(word.removeprefix("steps=")) for word in sys.argv[4:]), 140)
    second_pass(source, vocabulary, target, fonts=Options().fonts, steps=count)
