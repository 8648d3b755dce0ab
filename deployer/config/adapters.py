"""`engine.adapters`: LoRA adapters by the name that requests ask for."""

from collections.abc import Sequence
from pathlib import Path

from deployer.config.rule import Complaints
from deployer.config.schema import DeployConfig
from deployer.typed_path import typed_path
from engines.spec import AdapterSpec

FILES = ("adapter_config.json", "adapter_model.safetensors")


def adapters_of(entries: Sequence[str]) -> tuple[AdapterSpec, ...]:
    """Return the adapters of checked entries `name=folder`."""
    pairs = [entry.partition("=") for entry in entries]
    return tuple(AdapterSpec(name=name, folder=str(typed_path(path))) for name, _, path in pairs)


def adapters_are_there(config: DeployConfig) -> Complaints:
    """Yield what is wrong with `engine.adapters`, and with what it is combined."""
    entries, key = config.engine.adapters, "engine.adapters"
    if not entries:
        return
    torn = [entry for entry in entries if not all(part.strip() for part in entry.partition("="))]
    if torn:
        yield key, f"`{torn[0]}`: each must read name=folder"
        return
    found = adapters_of(entries)
    names = [adapter.name for adapter in found]
    if len(set(names)) < len(names):
        yield key, "each name must be there once"
    served = config.server.model_name or config.model.name
    if served in names:
        yield key, f"`{served}` is the model's own name; name the adapter otherwise"
    for adapter in found:
        missing = [name for name in FILES if not (Path(adapter.folder) / name).is_file()]
        if missing:
            yield (
                key,
                f"`{adapter.name}`: {adapter.folder} holds no {missing[0]}; name a folder in PEFT's layout",
            )
    if config.engine.load_format == "random":
        yield key, "adapters need the checkpoint's weights; use engine.load_format=checkpoint"
