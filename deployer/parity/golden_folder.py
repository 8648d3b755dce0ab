"""A folder with a checkpoint and a reference implementation's results on it, read as it is written.

`golden.safetensors` holds inputs and results of several cases, spelled `img1.logits` or `logits_one_image`,
of several pictures numbered behind that (`img1.image_features.0`, `pixel_values_two_images_1`). `meta.json`
says what the tensors alone do not. A text alone is a case, so is every prompt with pictures.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from deployer.errors import ConfigError

TENSORS, META = "golden.safetensors", "meta.json"
_CASE = re.compile(r"(?:(?P<dotted>[^.]+)\.input_ids|input_ids_(?P<named>.+))")
# What one spelling calls by another name than the other.
_NAMES = {"greedy_ids": "greedy"}


@dataclass(frozen=True, kw_only=True, slots=True)
class GoldenFolder:
    """Inputs and results of every case."""

    folder: Path
    config: Mapping[str, Any]
    meta: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @classmethod
    def open(cls, folder: Path) -> "GoldenFolder":
        """Read a folder. Raises ConfigError where it is no such folder."""
        file = folder / TENSORS
        try:
            tensors = load_file(file)
        except (OSError, SafetensorError) as error:
            raise ConfigError(
                [
                    f"model.path={folder}: its {TENSORS} cannot be read ({error}); name a folder that holds "
                    "a checkpoint and what the reference implementation computed on it"
                ]
            ) from error
        meta = _json(folder / META) if (folder / META).exists() else {}
        golden = cls(folder=folder, config=_json(folder / "config.json"), meta=meta, tensors=tensors)
        if not golden.cases:
            raise ConfigError(
                [f"model.path={folder}: {TENSORS} holds no case, a tensor `<case>.input_ids`; make it again"]
            )
        return golden

    @property
    def cases(self) -> list[str]:
        """The names of all cases, sorted."""
        found = (_CASE.fullmatch(name) for name in self.tensors)
        return sorted(match["dotted"] or match["named"] for match in found if match)

    def find(self, what: str, case: str) -> Tensor | None:
        """Return a tensor of a case, None where there is none."""
        names = (f"{case}.{what}", f"{_NAMES.get(what, what)}_{case}")
        return next((self.tensors[name] for name in names if name in self.tensors), None)

    def read(self, what: str, case: str) -> Tensor:
        """Return a tensor of a case. Raises ConfigError where there is none."""
        found = self.find(what, case)
        if found is None:
            raise ConfigError(
                [f"model.path={self.folder}: case `{case}` lacks `{what}` in {TENSORS}; make it again"]
            )
        return found

    def numbered(self, what: str, case: str) -> list[Tensor]:
        """Return the tensors of a case that are counted from 0, one a picture or a part of one."""
        return list(self._numbered(what, case))

    def prompt(self, case: str) -> Mapping[str, Any]:
        """Return what meta.json says of a case's prompt."""
        found = self.meta.get("prompts", {}).get(case, {})
        return found if isinstance(found, Mapping) else {}

    def token_ids(self, case: str) -> list[int]:
        """Return the prompt's token ids as the reference was given them."""
        ids: list[int] = self.read("input_ids", case).flatten().tolist()
        return ids

    def logits(self, case: str) -> Tensor:
        """Return the logits [R, V] of R positions of the prompt."""
        found = self.read("logits", case)
        return found.reshape(-1, found.shape[-1])

    def logit_positions(self, case: str) -> list[int]:
        """Return the positions of `logits`, counted from the prompt's end: the last R, or what is listed.

        A list names positions of which the last R were kept, the prompt's last among them.
        """
        count = len(self.logits(case))
        listed = self.find("logit_rows", case)
        if listed is None:
            return list(range(-count, 0))
        rows: list[int] = listed.flatten().tolist()
        return [row - rows[-1] - 1 for row in rows[-count:]]

    def greedy(self, case: str) -> list[int]:
        """Return the tokens that follow the prompt, each the most likely one."""
        ids: list[int] = self.read("greedy_ids", case).flatten().tolist()
        return ids

    def rows(self, case: str) -> tuple[Tensor, int] | None:
        """Return image rows of all pictures below each other, and that every how manieth is kept."""
        kept = (
            re.fullmatch(rf"{re.escape(case)}\.image_features_every_(\d+)th", name) for name in self.tensors
        )
        for match in kept:
            if match:
                return _below_each_other([self.tensors[match[0]]]), int(match[1])
        whole = self.find("image_features", case)
        parts = [whole] if whole is not None else self.numbered("image_features", case)
        return (_below_each_other(parts), 1) if parts else None

    def _numbered(self, what: str, case: str) -> Iterator[Tensor]:
        index = 0
        while True:
            names = (f"{case}.{what}.{index}", f"{what}_{case}_{index}")
            found = next((self.tensors[name] for name in names if name in self.tensors), None)
            if found is None:
                return
            yield found
            index += 1


def _below_each_other(parts: list[Tensor]) -> Tensor:
    import torch

    return torch.cat([part.reshape(-1, part.shape[-1]) for part in parts])


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError([f"{file}: cannot be read as JSON ({error}); make the folder again"]) from error
    if not isinstance(found, dict):
        raise ConfigError([f"{file}: must hold an object; make the folder again"])
    return found
