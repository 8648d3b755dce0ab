"""timm's model up to one layer. The only file that imports timm, and only when a tower asks for it."""

from difflib import get_close_matches
from typing import Any

from torch import Tensor

from engines.errors import CheckpointError, PackageError


def import_timm() -> Any:
    """Return timm. Raises PackageError where it or torchvision, which it needs, cannot be imported."""
    try:
        import timm
    except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: torchvision made for another torch
        raise PackageError(
            f"timm cannot be imported ({type(error).__name__}: {error}): a tower `timm/<name>` needs timm "
            "and a torchvision built for the torch that is installed; install `vlm-deployer[timm]`, and "
            "beside a CPU-only torch the CPU build of torchvision"
        ) from error
    return timm


def whole_model(name: str) -> Any:
    """Return timm's model with random weights on the CPU, its head included. Raises CheckpointError."""
    timm = import_timm()
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3) or timm.list_models()[:3]
        raise CheckpointError(
            f"vision tower `timm/{name}`: timm {timm.__version__} has no such model; near it: "
            f"{', '.join(f'`{found}`' for found in sorted(near))}"
        )
    return timm.create_model(name, pretrained=False).eval()


def cut_behind(model: Any, name: str, select_layer: int) -> Any:
    """Return the model without what comes behind a layer. Raises CheckpointError where there is none."""
    if not hasattr(model, "prune_intermediate_layers"):
        raise CheckpointError(
            f"vision tower `timm/{name}`: this model gives no features of single layers "
            "(`forward_intermediates`); choose one that does"
        )
    try:
        model.prune_intermediate_layers([select_layer], prune_norm=True, prune_head=True)
    except (AssertionError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"vision tower `timm/{name}`: has no layer {select_layer} ({error}); count from the last, -1"
        ) from error
    return model


def last_map(model: Any, pixels_ICSS: Tensor) -> Tensor:
    """Return the output of a cut model's last layer, unnormed: a map [I, H, y, x] without class tokens."""
    (found,) = model.forward_intermediates(
        pixels_ICSS, indices=[-1], norm=False, output_fmt="NCHW", intermediates_only=True
    )
    assert isinstance(found, Tensor), "a model of vision gives tensors"
    return found
