"""The state of a training run, and one step of it."""

import sys
import time
from collections.abc import Sequence
from math import cos, pi
from typing import TextIO

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deployer.pocket_vl.dense_labels import CLASSES
from deployer.pocket_vl.export import write_parts
from deployer.pocket_vl.network import PocketVl, initialise
from deployer.pocket_vl.samples import Batch, sight
from deployer.pocket_vl.sampling import model_pixels
from deployer.pocket_vl.sizes import Sizes
from deployer.pocket_vl.training_options import Options
from deployer.pocket_vl.trial import Normalise


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
        on_gpu = self.device.type == "cuda"
        self.done = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]  # torch's

    @property
    def idle(self) -> bool:
        """Whether the device has done all steps it was given."""
        return self.done is None or bool(self.done.query())  # type: ignore[no-untyped-call]  # torch's

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start

    def save(self) -> None:
        """Write the weights."""
        write_parts(self.model.state_dict(), self.options.out)
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
