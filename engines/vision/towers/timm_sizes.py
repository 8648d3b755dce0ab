"""What a timm model needs and gives, asked of timm itself in a process of its own.

Front ends and planners hold no torch: `python -m engines.vision.towers.timm_sizes NAME LAYER` imports it,
runs the model on tensors without storage, and prints one JSON object, or one line of error with exit code 3.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from engines.errors import EngineError, error_of
from engines.vision.towers.timm_spec import TimmSpec

_TIMEOUT_S = 300.0  # the largest backbones are built once, with random weights, on the CPU
_FAULT = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class TimmModel:
    """A tower, and how timm's own weights want their pictures."""

    tower: TimmSpec
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@cache
def timm_model(name: str, select_layer: int) -> TimmModel:
    """Return the sizes of timm's model. Raises CheckpointError and PackageError as timm answers."""
    command = [sys.executable, "-m", "engines.vision.towers.timm_sizes", name, str(select_layer)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"vision tower `timm/{name}`: timm did not build it within {_TIMEOUT_S:.0f} s; choose a "
            "smaller one"
        ) from error
    last = done.stdout.strip().rpartition("\n")[2]
    if done.returncode == _FAULT:
        kind, _, message = last.partition(" ")
        raise error_of(kind, message)
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise EngineError(
            f"vision tower `timm/{name}`: timm cannot tell its sizes ({reason}); choose another model"
        )
    return msgspec.json.decode(last, type=TimmModel)


def measured(name: str, select_layer: int) -> dict[str, Any]:
    """Return the fields of a `TimmModel`. Imports torch and timm; raises what `timm_model` raises."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from engines.vision.towers.timm_model import cut_behind, last_map, whole_model

    whole = whole_model(name)
    names, config = list(whole.state_dict()), whole.pretrained_cfg
    _, height, width = config.get("input_size", (3, 224, 224))
    model = cut_behind(whole, name, select_layer).to("meta")
    state = {key: tensor for key, tensor in model.state_dict().items() if tensor.is_floating_point()}
    widest = _watched_numbers(model)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        map_1Hyx = last_map(model, torch.empty(1, 3, height, width, device="meta"))
    if height != width or map_1Hyx.shape[2] != map_1Hyx.shape[3]:
        raise EngineError(f"vision tower `timm/{name}`: its pictures must be square; choose another model")
    counts = counter.get_flop_counts().get("Global", {})
    attention = sum(flops for op, flops in counts.items() if "bmm" in str(op) or "attention" in str(op))
    tower = {
        "kind": "timm", "name": name, "select_layer": select_layer, "image": height,
        "grid": map_1Hyx.shape[2], "hidden": map_1Hyx.shape[1],
        "tensors": [(key, list(tensor.shape)) for key, tensor in state.items()],
        "unused": [key for key in names if key not in state],
        "flops": counter.get_total_flops() - attention, "attention_flops": attention,
        "widest_numbers": max(widest),
    }  # fmt: skip
    return {"tower": tower, "mean": config["mean"], "std": config["std"]}


def _watched_numbers(model: Any) -> list[int]:
    """Return a list that fills with the numbers that go in and out of each leaf as the model runs."""
    found = [0]

    def note(_: Any, inputs: Any, output: Any) -> None:
        found.append(sum(value.numel() for value in (*inputs, output) if hasattr(value, "numel")))

    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(note)
    return found


def _main(name: str, select_layer: str) -> int:
    try:
        print(json.dumps(measured(name, int(select_layer))))
    except EngineError as error:
        print(type(error).__name__, str(error).replace("\n", " "))
        return _FAULT
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
