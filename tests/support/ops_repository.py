"""An ops repository in a folder of its own, with a recipe for a tiny model that runs here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tiny_checkpoint import write_tiny_checkpoint

Deploy = Callable[..., tuple[int, str, str]]  # words -> exit code, output, messages

RECIPE = """\
# What runs in production.
recipe:
  schema: 1
  name: prod
  version: "1"
  description: a tiny model for tests
  hardware: cpu
  tolerance: 50               # a busy machine must not fail the tests
  expected: null

defaults:
  - deploy
  - model: tiny
  - override engine: pytorch
  - _self_

engine:
  device_type: cpu
  num_gpu_blocks: 16
  session_len: 1024
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ops:
    """An ops repository."""

    root: Path
    checkpoint: Path

    @property
    def recipe(self) -> Path:
        return self.root / "recipes" / "prod.yaml"

    @property
    def lock(self) -> Path:
        return self.root / "recipes" / "prod.lock.json"

    def edit(self, old: str, new: str) -> None:
        """Replace text of the recipe; it must be there."""
        text = self.recipe.read_text()
        assert old in text
        self.recipe.write_text(text.replace(old, new))


def write_ops(folder: Path) -> Ops:
    """Write the repository and the checkpoint of its model below a folder."""
    checkpoint = write_tiny_checkpoint(folder / "weights")
    root = folder / "ops"
    for name in ("conf/model", "recipes"):
        (root / name).mkdir(parents=True)
    (root / "conf/model/tiny.yaml").write_text(
        f"# Ours.\ndefaults:\n  - local@_here_\n  - _self_\n\nname: tiny\npath: {checkpoint}\n"
    )
    (root / "recipes/prod.yaml").write_text(RECIPE)
    return Ops(root=root, checkpoint=checkpoint)
