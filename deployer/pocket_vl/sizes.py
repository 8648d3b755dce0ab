"""The network's hyper-parameters."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """The hyper-parameters; `checkpoint_config.py` writes them into config.json."""

    vocab: int
    image: int = 192
    patch: int = 12
    max_tiles: int = 6
    vision_hidden: int = 256
    vision_layers: int = 8
    vision_heads: int = 4
    vision_ffn: int = 896
    hidden: int = 256
    layers: int = 6
    heads: int = 8
    kv_heads: int = 4
    ffn: int = 704
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    vision_norm_eps: float = 1e-6
    max_positions: int = 4096

    @property
    def grid(self) -> int:
        """Patches a side of a tile."""
        return self.image // self.patch

    @property
    def rows_per_tile(self) -> int:
        """Prompt tokens of a tile."""
        return (self.grid // 2) ** 2

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Sizes":
        """Read what `save` wrote."""
        return cls(**json.loads(path.read_text()))
