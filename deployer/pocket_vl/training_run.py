"""The state of a training run, and one step of it."""

import sys
import time
from collections.abc import Sequence
from typing import TextIO

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deployer.pocket_vl.dense_labels import CLASSES
from deployer.pocket_vl.export import write_parts
from deployer.pocket_vl.muon import Muon
from deployer.pocket_vl.network import PocketVl, initialise
from deployer.pocket_vl.samples import Batch, sight
from deployer.pocket_vl.sampling import model_pixels
from deployer.pocket_vl.sizes import Sizes
from deployer.pocket_vl.training_options import Options
from deployer.pocket_vl.trial import Normalise
from deployer.pocket_vl.turns import KINDS


class Run:
    """One training run: the bf16 network, its fp32 master copy, and the optimisers."""

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
        self.grads = [torch.zeros_like(master) for master in self.masters]
        for master, grad in zip(self.masters, self.grads, strict=True):
            master.grad = grad
        self.adamw, self.muon = self._optimisers()
        self.by_kind_K2 = torch.zeros(len(KINDS), 2, device=self.device)
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

    def _optimisers(self) -> tuple[torch.optim.AdamW, Muon]:
        """Return AdamW of embeddings, heads and vectors, and Muon of the layers' matrices."""
        options = self.options
        names = [name for name, _ in self.model.named_parameters()] + ["dense.weight", "dense.bias"]
        masters = dict(zip(names, self.masters, strict=True))
        matrices = [m for name, m in masters.items() if _is_layer_matrix(name, m) and options.matrix_lr > 0]
        taken = {id(matrix) for matrix in matrices}
        rest = [m for m in self.masters if id(m) not in taken]
        groups = [
            {"params": [m for m in rest if m.ndim >= 2], "weight_decay": options.weight_decay},
            {"params": [m for m in rest if m.ndim < 2], "weight_decay": 0.0},
        ]
        adamw = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.98), fused=self.device.type == "cuda")
        return adamw, Muon(matrices, weight_decay=options.weight_decay)

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

    def step(self, batch: Batch, row_id: int, *, slower: float, dense_weight: float) -> tuple[Tensor, Tensor]:
        """Take one step at a share of the peak rates; return the losses of answers and of dense labels."""
        answer_loss, dense_losses = self._losses(batch, row_id)
        (answer_loss + dense_weight * dense_losses.sum()).backward()  # type: ignore[no-untyped-call]  # torch
        with torch.no_grad():
            torch._foreach_copy_(self.grads, [p.grad for p in self.parameters if p.grad is not None])
        for parameter in self.parameters:
            parameter.grad = None
        nn.utils.clip_grad_norm_(self.masters, 1.0)
        for group in self.adamw.param_groups:
            group["lr"] = self.options.lr * slower
        self.adamw.step()
        self.muon.step(self.options.matrix_lr * slower)
        with torch.no_grad():
            torch._foreach_copy_([p.data for p in self.parameters], [m.data for m in self.masters])
        return answer_loss.detach(), dense_losses.detach()

    def _losses(self, batch: Batch, row_id: int) -> tuple[Tensor, Tensor]:
        features, rows = self.model.encode(_with_noise(self.normalise(batch.tiles_ISSC)))
        ids = batch.ids_BT.long()
        x_BTH = self.model.embed(ids, rows.flatten(0, 1), row_id=row_id)
        hidden = self.model.language_model(x_BTH, batch.positions_BT, sight(batch))
        asked, told = batch.asked_A, batch.asked_A + 1
        weights = batch.weights_BT.flatten()[told]
        logits = self.model.language_model.output(hidden.flatten(0, 1).index_select(0, asked))
        losses = F.cross_entropy(logits.float(), ids.flatten()[told], reduction="none")
        answer_loss = (losses * weights).sum() / weights.sum()
        self._note(losses.detach(), weights, batch.kinds_BT.flatten()[told])
        planes = self.dense(features.flatten(0, 1)).split(CLASSES, dim=-1)
        return answer_loss, dense_losses(planes, batch.labels_IGG5.flatten(0, 2).long())

    def _note(self, losses: Tensor, weights: Tensor, kinds: Tensor) -> None:
        self.by_kind_K2.index_add_(0, kinds.long(), torch.stack([losses * weights, weights], dim=1))

    def losses_by_kind(self) -> dict[str, float]:
        """Return the mean loss of each kind of question since the last call."""
        totals = self.by_kind_K2.tolist()
        self.by_kind_K2.zero_()
        return {kind: loss / weight for kind, (loss, weight) in zip(KINDS, totals, strict=True) if weight}


def dense_losses(planes: Sequence[Tensor], labels_L5: Tensor) -> Tensor:
    """Return the losses of kind, colour, character, centre and place; three of them where there is one."""
    kind, colour, character, centre, place = planes
    off_centre = labels_L5[:, 3] == 0
    centre_losses = F.cross_entropy(centre.float(), labels_L5[:, 3], reduction="none")
    weight = torch.where(off_centre, 1.0, 8.0)
    return torch.stack(
        [
            F.cross_entropy(kind.float(), labels_L5[:, 0]),
            _where_labelled(colour, labels_L5[:, 1]),
            _where_labelled(character, labels_L5[:, 2]),
            (centre_losses * weight).sum() / weight.sum(),
            _where_labelled(place, labels_L5[:, 4]),
        ]
    )


def _where_labelled(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean loss over labels above 0; 0 where there is none."""
    losses = F.cross_entropy(logits.float(), labels, ignore_index=0, reduction="sum")
    return losses / (labels > 0).sum().clamp(min=1)


def _is_layer_matrix(name: str, parameter: Tensor) -> bool:
    """Tell whether a parameter maps hidden states to hidden states: layers and projector, not embeddings."""
    return parameter.ndim == 2 and (".layers." in name or name.startswith("mlp1"))


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
    """Return the share of the peak rate: a linear warm-up, then a straight line to 0."""
    return min(1.0, (step + 1) / options.warmup) * (1.0 - part)
