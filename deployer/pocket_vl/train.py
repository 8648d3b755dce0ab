"""Training `pocket_vl` from nothing: `python -m deployer.pocket_vl.train steps=6000 seconds=520 out=DIR
fonts=DIR`.

One GPU, pictures drawn by worker processes while it computes. Every batch is a pure function of the seed
and its number. Weights go to DIR/{vision,language}.safetensors each minute and at the end, the log to
DIR/train.log. Reads tokenizer.json from deployer/models/pocket_vl. Needs torch, numpy, Pillow,
tokenizers and safetensors only.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import cos, pi
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import TextIO

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from deployer.pocket_vl.dense_labels import CLASSES
from deployer.pocket_vl.export import write_weights
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.held_out import held_out_questions
from deployer.pocket_vl.network import PocketVl, Sizes, initialise
from deployer.pocket_vl.prompts import PromptCoder
from deployer.pocket_vl.samples import Batch, Batches, sight
from deployer.pocket_vl.sampling import model_pixels
from deployer.pocket_vl.trial import Asked, Normalise, accuracy, prepare
from deployer.pocket_vl.vocabulary import load_vocabulary

VOCAB_MULTIPLE = 64

_RECENT = 32  # batches kept for another step
_LATE_S = 0.004  # a wait for the next batch that counts as falling behind


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The command line, `key=value`."""

    out: Path = Path("outputs/pocket_vl")
    fonts: Path = Path(".fonts")
    first_steps: int = 5000  # of the first stage: small pictures of one tile
    steps: int = 10000  # of both stages
    first_seconds: float = 180.0  # the first stage ends here even if steps are left
    seconds: float = 535.0  # the schedule ends here even if steps are left
    first_batch: int = 192  # pictures
    batch: int = 128
    text_tokens: int = 256  # of conversations behind a picture
    lr: float = 1.5e-3
    warmup: int = 120  # steps
    weight_decay: float = 0.05
    dense_weight: float = 1.0  # at the start; a fifth of it at the end
    questions: int = 2000  # of the trial at the end
    workers: int = max(1, (os.cpu_count() or 1) - 1)
    seed: int = 1
    tokenizer: Path = Path(__file__).parents[1] / "models" / "pocket_vl" / "tokenizer.json"
    device: str = "cuda"
    compile: bool = True


class Run:
    """One training run: the bf16 network, its fp32 master copy, and the optimiser."""

    def __init__(self, options: Options, sizes: Sizes, log: TextIO) -> None:
        self.options = options
        self.log = log
        self.device = torch.device(options.device)
        torch.manual_seed(options.seed)
        self.model = PocketVl(sizes)
        initialise(self.model, sizes)
        self.dense = nn.Linear(sizes.vision_hidden, sum(CLASSES))
        self.parameters = [*self.model.parameters(), *self.dense.parameters()]
        self.masters = [p.detach().clone().to(self.device).requires_grad_() for p in self.parameters]
        self.model.to(self.device, torch.bfloat16)
        self.dense.to(self.device, torch.bfloat16)
        decayed = [m for m in self.masters if m.ndim >= 2]
        rest = [m for m in self.masters if m.ndim < 2]
        groups = [
            {"params": decayed, "weight_decay": options.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(
            groups, lr=options.lr, betas=(0.9, 0.98), fused=self.device.type == "cuda"
        )
        self.normalise = Normalise(
            model_pixels(image=sizes.image, max_tiles=sizes.max_tiles),
            device=self.device,
            dtype=torch.bfloat16,
        )
        if options.compile:
            for layer in (
                *self.model.vision_model.encoder["layers"],
                *self.model.language_model.model.layers,
            ):  # type: ignore[misc]  # ModuleDict values are lists of modules
                layer.compile(dynamic=True)

        self.start, self.saved, self.steps = time.perf_counter(), 0.0, 0
        self.done = torch.cuda.Event() if self.device.type == "cuda" else None

    @property
    def idle(self) -> bool:
        """Whether the device has done all steps it was given."""
        return self.done is None or self.done.query()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start

    def save(self) -> None:
        """Write the weights."""
        write_weights(self.model.state_dict(), self.options.out, parts=True)
        self.saved = self.elapsed

    def save_each_minute(self) -> None:
        """Write the weights where the last ones are a minute old."""
        if self.elapsed - self.saved > 60:
            self.save()

    def say(self, text: str) -> None:
        """Write a line to the terminal and the log."""
        for stream in (sys.stdout, self.log):
            print(text, file=stream, flush=True)

    def step(self, batch: Batch, row_id: int, *, rate: float, dense_weight: float) -> tuple[Tensor, Tensor]:
        """Take one step; return the loss of answers and the four losses of dense labels."""
        answer_loss, dense_losses = self._losses(batch, row_id)
        (answer_loss + dense_weight * dense_losses.sum()).backward()  # type: ignore[no-untyped-call]  # torch
        for master, parameter in zip(self.masters, self.parameters, strict=True):
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None
        nn.utils.clip_grad_norm_(self.masters, 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        with torch.no_grad():
            torch._foreach_copy_([p.data for p in self.parameters], [m.data for m in self.masters])
        return answer_loss.detach(), dense_losses.detach()

    def _losses(self, batch: Batch, row_id: int) -> tuple[Tensor, Tensor]:
        features, rows = self.model.encode(_with_noise(self.normalise(batch.tiles_ISSC)))
        ids = batch.ids_BT.long()
        x_BTH = self.model.embed(ids, rows.flatten(0, 1), row_id=row_id)
        hidden = self.model.language_model(x_BTH, batch.positions_BT, sight(batch))
        weights = batch.weights_BT[:, 1:]
        asked = weights > 0
        logits = self.model.language_model.output(hidden[:, :-1][asked])
        losses = F.cross_entropy(logits.float(), ids[:, 1:][asked], reduction="none")
        answer_loss = (losses * weights[asked]).sum() / weights.sum()
        planes = self.dense(features.flatten(0, 1)).split(CLASSES, dim=-1)
        return answer_loss, dense_losses(planes, batch.labels_IGG4.flatten(0, 2).long())


def dense_losses(planes: Sequence[Tensor], labels_L4: Tensor) -> Tensor:
    """Return the losses of kind, colour, character and centre; colour and character where there is one."""
    kind, colour, character, centre = planes
    shown, written = labels_L4[:, 1] > 0, labels_L4[:, 2] > 0
    weight = torch.tensor([1.0, 8.0], device=labels_L4.device)
    return torch.stack(
        [
            F.cross_entropy(kind.float(), labels_L4[:, 0]),
            F.cross_entropy(colour[shown].float(), labels_L4[:, 1][shown]),
            F.cross_entropy(character[written].float(), labels_L4[:, 2][written]),
            F.cross_entropy(centre.float(), labels_L4[:, 3], weight=weight),
        ]
    )


def _with_noise(pixels_ICSS: Tensor) -> Tensor:
    """Return half the tiles with noise and a slightly different brightness."""
    shape = (len(pixels_ICSS), 1, 1, 1)
    switch = torch.rand(shape, device=pixels_ICSS.device) < 0.5
    strength = (torch.rand(shape, device=pixels_ICSS.device) * 0.15 * switch).to(pixels_ICSS.dtype)
    shift = ((torch.rand(shape, device=pixels_ICSS.device) - 0.5) * 0.16 * switch).to(pixels_ICSS.dtype)
    return pixels_ICSS + torch.randn_like(pixels_ICSS) * strength + shift


def progress(step: int, elapsed: float, options: Options) -> float:
    """Return the position in the schedule, 0..1, by steps or by time, whichever is further."""
    return min(1.0, max(step / options.steps, elapsed / options.seconds))


def learning_rate(step: int, part: float, options: Options) -> float:
    """Return a linear warm-up, then a cosine to 0."""
    return options.lr * min(1.0, (step + 1) / options.warmup) * (0.5 + 0.5 * cos(pi * part))


def train(options: Options) -> None:
    """Run both stages and the trial."""
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    tokenizer = load_vocabulary(options.tokenizer)
    sizes = Sizes(vocab=-(-tokenizer.get_vocab_size() // VOCAB_MULTIPLE) * VOCAB_MULTIPLE)
    coder = PromptCoder(tokenizer, rows_per_tile=sizes.rows_per_tile)
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
        prefetch_factor=4 if options.workers else None,
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
        rate=learning_rate(run.steps, part, run.options),
        dense_weight=run.options.dense_weight * (1 - 0.8 * part),
    )
    if run.steps % 50 == 0:
        answer, dense = float(losses[0]), " ".join(f"{loss:.3f}" for loss in losses[1].tolist())
        run.say(
            f"step {run.steps} {run.elapsed:.0f} s answers {answer:.4f} dense {dense} waited {waited:.1f} s"
        )
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


def read_options(arguments: list[str]) -> Options:
    """Return the options of `key=value` arguments; exits with a message on an unknown key or a bad value."""
    known = {field.name: field.type for field in fields(Options)}
    changes: dict[str, object] = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in known:
            raise SystemExit(f"unknown option `{key}`; known: {', '.join(sorted(known))}")
        kind = known[key]
        try:
            changes[key] = value == "true" if kind is bool else kind(value)  # type: ignore[operator]  # int, float, str or Path
        except ValueError as error:
            raise SystemExit(f"option `{argument}`: {error}") from error
    return replace(Options(), **changes)  # type: ignore[arg-type]  # checked against the fields above


if __name__ == "__main__":
    train(read_options(sys.argv[1:]))
