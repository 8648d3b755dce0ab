"""What a quantized checkpoint has beside its packed layers, and how it says so."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from torch import Tensor

from engines.quant.layer_store import LayerStore
from engines.quant.staging import Staging

SHARD_BYTES = 2 << 30


def write_remainder(store: LayerStore, staging: Staging, *, written: Iterable[str]) -> dict[str, str]:
    """Copy every tensor that was not written, as it is; return their files."""
    done = set(written)
    left = (name for name in store.checkpoint.shapes if name not in done)
    places: dict[str, str] = {}
    for number, part in enumerate(_shards(store, left)):
        name = f"model-other-{number:05d}"
        staging.save_shard(name, part)
        places |= dict.fromkeys(part, f"{name}.safetensors")
    return places


def kept_modules(store: LayerStore, packed: Iterable[str], *, as_patterns: bool) -> list[str]:
    """Return the modules with matrices that are not packed: a whole branch by its name alone.

    `packed` are names of parameters. `as_patterns`: as compressed-tensors takes them.
    """
    names = set(packed)
    inside = {claim.source.split(".")[0] for claim in store.claims if claim.parameter.name in names}
    kept: dict[str, None] = {}
    for claim in store.claims:
        if claim.parameter.name in names or len(claim.parameter.shape) != 2:
            continue
        branch = claim.source.split(".")[0]
        module = claim.source.removesuffix(".weight")
        if branch in inside:
            kept[module] = None
        else:
            kept[f"re:{branch}\\..*" if as_patterns else branch] = None
    return list(kept)


def weight_files(folder: Path) -> list[Path]:
    """Return the files of a checkpoint folder that hold weights or say where they are."""
    patterns = ("*.safetensors", "*.bin", "*.safetensors.index.json", "*.bin.index.json", "*.pt", "*.pth")
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def _shards(store: LayerStore, names: Iterable[str]) -> Iterator[Mapping[str, Tensor]]:
    part: dict[str, Tensor] = {}
    size = 0
    for name in names:
        shape = store.checkpoint.shapes[name]
        tensor = store.checkpoint.read(name, axis=0, start=0, length=shape[0] if shape else 1).clone()
        if part and size + tensor.nbytes > SHARD_BYTES:
            yield part
            part, size = {}, 0
        part[name] = tensor
        size += tensor.nbytes
    if part:
        yield part
