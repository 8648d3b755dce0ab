"""The folder in which a quantized checkpoint grows: shards, and how far the work is, so that it can go on.

Nothing in it can be loaded before `finish` has written the index, config.json and the rest and the folder
has taken its final name; every file is written under another name first.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from engines.errors import CheckpointError

STATE = "progress.json"
PART = ".part"


def layer_shard(layer: int) -> str:
    """Return the name of the file of a layer."""
    return f"model-layer-{layer:05d}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """What is done."""

    layers: int  # of the decoder
    notes: list[dict[str, Any]]  # one a layer, for the report


class Staging:
    """One such folder."""

    def __init__(self, folder: Path, *, job: Mapping[str, Any]) -> None:
        """`job` is everything that decides the result; work on another job is not gone on with.

        Raises CheckpointError where the folder holds another job's work, or a state that cannot be read.
        """
        self.folder, self._job = folder, dict(job)
        self._state = folder / STATE
        if self._state.is_file():
            job = self._noted()["job"]
            if job != self._job:
                changed = sorted(key for key in self._job if job.get(key) != self._job[key])
                raise CheckpointError(
                    f"{folder} holds unfinished work with another {', '.join(changed)}: give that again, or "
                    "remove the folder"
                )
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def progress(self) -> Progress:
        """Return what an earlier run has done."""
        if not self._state.is_file():
            return Progress(layers=0, notes=[])
        found = self._noted()
        return Progress(layers=found["layers"], notes=found["notes"])

    def _noted(self) -> dict[str, Any]:
        try:
            found = json.loads(self._state.read_text(encoding="utf-8"))
            return {"job": dict(found["job"]), "layers": int(found["layers"]), "notes": list(found["notes"])}
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{self._state} cannot be read ({error!r}): it says how far this work is; remove "
                f"{self.folder} to begin again"
            ) from error

    def refuse_holes(self, layers: int) -> None:
        """Raise CheckpointError where a file of the layers that are done is gone or cut."""
        for name in (*map(layer_shard, range(layers)), f"rows-{layers:05d}"):
            try:
                self.shard_names(name)
            except (OSError, SafetensorError) as error:
                raise CheckpointError(
                    f"{self.folder / name}.safetensors is not whole ({error}), and {STATE} says that it is: "
                    f"remove {self.folder} to begin again"
                ) from error

    def rows(self, layers: int) -> dict[str, Tensor]:
        """Return the rows that leave the layer before."""
        return load_file(self.folder / f"rows-{layers:05d}.safetensors")

    def shard_names(self, name: str) -> list[str]:
        """Return the tensors of a file that was written."""
        with safe_open(self.folder / f"{name}.safetensors", framework="pt") as shard:
            return list(shard.keys())

    def save_shard(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write a file of tensors of the checkpoint."""
        whole = self.folder / f"{name}.safetensors"
        part = whole.with_suffix(PART)
        save_file(
            {key: tensor.contiguous().cpu() for key, tensor in tensors.items()},
            part,
            metadata={"format": "pt"},
        )
        part.chmod(0o644)  # safetensors makes files that their owner alone can read
        part.rename(whole)

    def commit(self, progress: Progress, rows: Mapping[str, Tensor]) -> None:
        """Note that the layers up to here are written, and what enters the next."""
        self.save_shard(f"rows-{progress.layers:05d}", rows)
        state = {"job": self._job, "layers": progress.layers, "notes": progress.notes}
        part = self._state.with_suffix(PART)
        part.write_text(json.dumps(state), encoding="utf-8")
        part.rename(self._state)
        for old in self.folder.glob("rows-*.safetensors"):
            if old.name != f"rows-{progress.layers:05d}.safetensors":
                old.unlink()

    def finish(self, places: Mapping[str, str], files: Mapping[str, str]) -> None:
        """Write the index (tensor: file) and text files, and drop what only the work needed."""
        index = {"metadata": {}, "weight_map": dict(sorted(places.items()))}
        (self.folder / "model.safetensors.index.json").write_text(
            json.dumps(index, indent=1), encoding="utf-8"
        )
        for name, text in files.items():
            (self.folder / name).write_text(text, encoding="utf-8")
        for leftover in (*self.folder.glob("rows-*.safetensors"), *self.folder.glob(f"*{PART}"), self._state):
            leftover.unlink()
