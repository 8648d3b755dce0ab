"""What the config tests share: the faults of a tree, and an ops repository outside the checkout."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from deployer.config import load_config
from deployer.errors import ConfigError

Faults = Callable[..., tuple[str, ...]]


@pytest.fixture
def faults_of() -> Faults:
    """Return every fault that a deployment of these words has."""

    def load(*words: str, config_dirs: Sequence[Path] = ()) -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            load_config(words, config_dirs=config_dirs)
        return caught.value.faults

    return load


@pytest.fixture
def ops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an ops repository with options and a recipe of its own; we stand in another folder."""
    root = tmp_path / "ops repo"
    for folder in ("conf/model", "conf/engine", "recipes"):
        (root / folder).mkdir(parents=True)
    (root / "conf/model/acme.yaml").write_text(
        "# Our fine-tune.\ndefaults:\n  - internvl2_2b@_here_\n  - _self_\n\nname: acme\nrepo: acme/vl\n"
    )
    (root / "conf/engine/small.yaml").write_text(
        "# Little memory.\ndefaults:\n  - pytorch@_here_\n  - _self_\n\nmax_batch_size: 4\n"
    )
    (root / "recipes/prod.yaml").write_text(
        "# What runs in production.\n"
        "defaults:\n  - deploy\n  - model: acme\n  - override engine: small\n  - _self_\n\n"
        "server:\n  port: 9000\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return root
