"""Weights that a checkpoint leaves to other folders or repositories, as LLaVA-1.5 its tower: found, fetched.

They are downloaded from the checkpoint's own hub. What the checkpoint holds itself is not fetched.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from deployer.config.schema import ModelConfig
from deployer.hub import download_from
from engines.spec import Companion
from engines.weights.companion_folder import companion_folder


def fetch_companions(
    model: ModelConfig, folder: Path, companions: Sequence[Companion], *, endpoint: str | None = None
) -> tuple[Companion, ...]:
    """Return the companions with the folders that their weights lie in, downloaded if need be.

    One whose tensors are in the checkpoint, or that no hub has, comes back as it is: the engine says what is
    missing. Raises ConfigError and UnavailableError as `fetch_checkpoint`.
    """
    return tuple(_fetched(model, folder, companion, endpoint) for companion in companions)


def _fetched(model: ModelConfig, folder: Path, companion: Companion, endpoint: str | None) -> Companion:
    is_local = model.hub in ("folder", "package")
    if is_local or companion_folder(folder, companion.folder) or _holds(folder, companion.prefix):
        return companion
    if companion.repo is not None:
        return replace(companion, folder=str(_repository(model, companion, companion.repo, endpoint)))
    if model.repo is not None and not companion.folder.startswith("/"):
        subfolder = PurePosixPath(companion.folder).as_posix()
        download_from(model, model.repo, endpoint=endpoint)([f"{subfolder}/*"])
    return companion


def _repository(model: ModelConfig, companion: Companion, repo: str, endpoint: str | None) -> Path:
    """Return the folder of another repository: its config, and its weights in one format."""
    download = download_from(replace(model, repo=repo, revision=None), repo, endpoint=endpoint)
    if companion.file is not None:
        return download([companion.file])
    folder = download(["config.json", "model*.safetensors*"])
    return folder if any(folder.glob("*.safetensors")) else download(["config.json", "pytorch_model*.bin*"])


def _holds(folder: Path, prefix: str) -> bool:
    """Tell whether the index of a checkpoint's shards names tensors that start like this."""
    for index in folder.glob("*.index.json"):
        names = json.loads(index.read_text(encoding="utf-8")).get("weight_map", {})
        if any(name.startswith(prefix) for name in names):
            return True
    return False
