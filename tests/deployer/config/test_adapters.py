"""`engine.adapters`: what is refused before anything is loaded."""

from pathlib import Path

import pytest

from deployer.config.adapters import adapters_of
from deployer.config.load import load_config
from deployer.errors import ConfigError
from engines.spec import AdapterSpec

MODEL = "+model=internvl2_8b"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def test_an_entry_is_a_name_and_a_folder(folder: Path) -> None:
    config = load_config([MODEL, f"engine.adapters=['fr={folder}','de={folder}']"])
    assert adapters_of(config.engine.adapters) == (
        AdapterSpec(name="fr", folder=str(folder)), AdapterSpec(name="de", folder=str(folder))
    )  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "others", "words"),
    [
        ("'fr'", [], "`fr`: each must read name=folder"),
        ("'fr={folder}','fr={folder}'", [], "each name must be there once"),
        ("'internvl2_8b={folder}'", [], "is the model's own name"),
        ("'fr=/no/such'", [], "/no/such holds no adapter_config.json"),
        ("'fr={folder}'", ["engine.load_format=random"], "need the checkpoint's weights"),
    ],
)
def test_what_cannot_be_served_is_named(folder: Path, entries: str, others: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config([MODEL, f"engine.adapters=[{entries.format(folder=folder)}]", *others])
