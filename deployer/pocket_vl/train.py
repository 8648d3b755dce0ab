"""Training `pocket_vl` from nothing: `python -m deployer.pocket_vl.train out=DIR fonts=DIR`.

One GPU; pictures are drawn by worker processes while it computes. Every batch is a pure function of the seed
and its number. Weights go to DIR/{vision,language}.safetensors each minute and at the end, the log to
DIR/train.log; `export.py` makes a checkpoint of them. Needs torch, numpy, Pillow, tokenizers and safetensors.
"""

import os
import sys
import time
from collections import deque
from multiprocessing import get_context
from random import Random

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from deployer.pocket_vl.export import SIZES_FILE, vocab_rows
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.held_out import held_out_questions
from deployer.pocket_vl.network import PocketVl
from deployer.pocket_vl.prompts import PromptCoder
from deployer.pocket_vl.samples import Batch, Batches
from deployer.pocket_vl.sampling import model_pixels
from deployer.pocket_vl.sizes import Sizes
from deployer.pocket_vl.training_options import Options, read_options
from deployer.pocket_vl.training_run import Run, learning_rate, progress
from deployer.pocket_vl.trial import Asked, accuracy, prepare
from deployer.pocket_vl.vocabulary import load_vocabulary

_RECENT = 32  # batches kept for another step
_LATE_S = 0.004  # a wait for the next batch that counts as falling behind


def train(options: Options) -> None:
    """Run both stages and the trial; exits with a message where the device is not there."""
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("device=cuda: torch finds no GPU; run it where `nvidia-smi` shows one")
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    sizes = Sizes(
        vocab=vocab_rows(options.tokenizer),
        patch=options.patch,
        vision_layers=options.vision_layers,
        layers=options.layers,
    )
    sizes.save(options.out / SIZES_FILE)
    coder = PromptCoder(load_vocabulary(options.tokenizer), rows_per_tile=sizes.rows_per_tile)
    book = FontBook.open(options.fonts)
    with (options.out / "train.log").open("w") as log:
        run = Run(options, sizes, log)
        run.say(
            f"{options}\n{sum(p.numel() for p in run.model.parameters())} parameters, {len(book.names)} fonts"
        )
        for easy in (True, False):
            _stage(run, coder, _batches(run, coder, book, easy=easy), easy=easy)
        run.save()
        if options.questions:
            _trial(run, coder, book)


def _batches(run: Run, coder: PromptCoder, book: FontBook, *, easy: bool) -> "DataLoader[tuple[Tensor, ...]]":
    options, sizes = run.options, run.model.sizes
    data = Batches(
        seed=options.seed + (0 if easy else 1),
        count=options.first_steps if easy else options.steps - options.first_steps,
        size=options.first_batch if easy else options.batch,
        book=book,
        coder=coder,
        pixels=model_pixels(image=sizes.image, max_tiles=1 if easy else sizes.max_tiles),
        patch=sizes.patch,
        text_tokens=options.text_tokens,
        level="easy" if easy else "any",
    )
    return DataLoader(
        data,
        batch_size=None,
        num_workers=options.workers,
        pin_memory=options.device == "cuda",
        prefetch_factor=2 if options.workers else None,
        worker_init_fn=_one_thread,
        multiprocessing_context=get_context("fork") if options.workers else None,
    )


def _one_thread(_: int) -> None:
    torch.set_num_threads(1)


def _stage(run: Run, coder: PromptCoder, batches: "DataLoader[tuple[Tensor, ...]]", *, easy: bool) -> None:
    """Train on each batch; where drawing falls behind, a batch of a while ago is taken once more."""
    options, waited, taken_again = run.options, 0.0, 0
    chooser, recent = Random(options.seed), deque[Batch](maxlen=_RECENT)
    until = options.first_seconds if easy else options.seconds
    mark = time.perf_counter()
    for tensors in batches:
        wait = time.perf_counter() - mark
        waited += wait if run.idle else 0.0
        batch = Batch.of(tensors, run.device)
        _one_step(run, batch, coder, waited)
        if run.idle and wait > _LATE_S and len(recent) == _RECENT:
            _one_step(run, recent[chooser.randrange(_RECENT // 2)], coder, waited)
            taken_again += 1
        recent.append(batch)
        run.save_each_minute()
        if run.elapsed > until:
            break
        mark = time.perf_counter()
    name = "first" if easy else "second"
    run.say(
        f"{name} stage: {run.steps} steps, {taken_again} again, {run.elapsed:.0f} s, waited {waited:.1f} s"
    )


def _one_step(run: Run, batch: Batch, coder: PromptCoder, waited: float) -> None:
    part = progress(run.steps, run.elapsed, run.options)
    losses = run.step(
        batch,
        coder.row_id,
        slower=learning_rate(run.steps, part, run.options),
        dense_weight=run.options.dense_weight * (1 - 0.8 * part),
    )
    if run.steps % 100 == 0:
        answer, dense = float(losses[0]), " ".join(f"{loss:.3f}" for loss in losses[1].tolist())
        run.say(
            f"step {run.steps} {run.elapsed:.0f} s answers {answer:.4f} dense {dense} waited {waited:.1f} s"
        )
    if run.steps % 500 == 0:
        run.say("  " + " ".join(f"{kind} {loss:.3f}" for kind, loss in run.losses_by_kind().items()))
    run.steps += 1
    if run.done is not None:
        run.done.record()


def _trial(run: Run, coder: PromptCoder, book: FontBook) -> None:
    sizes = run.model.sizes
    pixels = model_pixels(image=sizes.image, max_tiles=sizes.max_tiles)
    asked = prepare(held_out_questions(run.options.questions, book), book, coder, pixels)
    report(run, asked, coder)


def report(run: Run, asked: list[Asked], coder: PromptCoder) -> None:
    """Print accuracy by kind and some wrong answers."""
    # A copy without compiled layers: compiling them once more without gradients takes longer than the trial.
    model = PocketVl(run.model.sizes).to(run.device, torch.bfloat16)
    model.load_state_dict(run.model.state_dict())
    table, wrong = accuracy(model, asked, coder, run.normalise, device=run.device)
    for kind, (right, total) in table.items():
        run.say(f"{kind:16} {right / total:7.2%} of {total}")
    for item, said in wrong[:: max(1, len(wrong) // 60)]:
        run.say(f"  {item.scene_number} {item.kind}: {item.question} -> {said!r}, not {item.answer!r}")


if __name__ == "__main__":
    train(read_options(sys.argv[1:]))
