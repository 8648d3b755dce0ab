"""Which software a deployment runs on: package versions and kernel sources, and which differences matter."""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from deployer.assets import resource_dir
from deployer.package_version import package_version
from deployer.recipes.file_hashes import hash_together

OURS = "vlm-deployer"
# release: another major or minor number may change answers, so it is an error, and less is worth a warning.
# look: any difference is worth a warning.
RULES: Mapping[str, Literal["release", "look"]] = {
    OURS: "release",
    "torch": "release",
    "tokenizers": "release",
    "sentencepiece": "release",
    "hydra-core": "look",
    "numpy": "look",
    "omegaconf": "look",
    "pillow": "look",
    "python": "look",
    "safetensors": "look",
    "transformers": "look",  # not needed; named because it changes what others can compare with
}
NOT_HERE = "not installed"


@dataclass(frozen=True, kw_only=True, slots=True)
class VersionChange:
    """A package of another version than the one locked."""

    package: str
    old: str
    new: str
    is_error: bool


def packages() -> dict[str, str]:
    """Return the versions of what is installed of `RULES`."""
    found = {name: package_version(name) for name in RULES if name != "python"}
    return {"python": platform.python_version(), **{name: text for name, text in found.items() if text}}


def version_changes(locked: Mapping[str, str], here: Mapping[str, str]) -> Iterator[VersionChange]:
    """Yield every difference, sorted by package."""
    for name in sorted(locked.keys() | here.keys()):
        old, new = locked.get(name, NOT_HERE), here.get(name, NOT_HERE)
        if old != new:
            strict = RULES.get(name, "look") == "release" and NOT_HERE not in (old, new)
            yield VersionChange(
                package=name, old=old, new=new, is_error=strict and _release(old) != _release(new)
            )


def kernels_hash() -> str:
    """Return one hash over all kernel sources."""
    root = resource_dir("kernels")
    sources = sorted(path for pattern in ("*.cu", "*.cuh") for path in root.rglob(pattern))
    return hash_together((path.relative_to(root).as_posix(), path.read_bytes()) for path in sources)


def _release(text: str) -> list[str]:
    return text.split("+")[0].split(".")[:2]
