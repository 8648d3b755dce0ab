"""Weights outside the checkpoint, against a hub of one repository on loopback."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from local_hub import LocalHub, serve

from deployer.companions import fetch_companions
from deployer.config.schema import ModelConfig
from deployer.errors import ConfigError
from engines.spec import Companion

TOWER = Companion(folder="owner/tower", prefix="vision.", repo="owner/tower")
FILES = {
    "config.json": b"{}",
    "pytorch_model.bin": b"weights",
    "tf_model.h5": b"the same again",
    "open_clip_pytorch_model.bin": b"others",
    "vit/clip/config.json": b"{}",
    "vit/clip/model.safetensors": b"weights",
}


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with serve(LocalHub("owner/tower", {"main": FILES})) as hub:
        yield hub


def fetch(server: LocalHub, folder: Path, companion: Companion, **changes: Any) -> Companion:
    folder.mkdir(exist_ok=True)
    fields = dict.fromkeys(field.name for field in dataclasses.fields(ModelConfig))
    values = {
        "name": "m",
        "hub": "huggingface",
        "repo": "owner/tower",
        "download_dir": str(folder.parent / "cache"),
    }
    model = ModelConfig(**{**fields, **values, **changes})
    (fetched,) = fetch_companions(model, folder, [companion], endpoint=server.endpoint)
    return fetched


def test_a_tower_of_another_repository_is_fetched_in_one_format(hub: LocalHub, tmp_path: Path) -> None:
    fetched = fetch(hub, tmp_path / "m", TOWER, repo="owner/model", revision="a-revision-of-the-model")
    assert sorted(path.name for path in Path(fetched.folder).iterdir()) == [
        "config.json",
        "pytorch_model.bin",
    ]


def test_a_file_with_a_name_of_its_own_is_fetched_alone(hub: LocalHub, tmp_path: Path) -> None:
    named = dataclasses.replace(TOWER, file="open_clip_pytorch_model.bin")
    assert [path.name for path in Path(fetch(hub, tmp_path / "m", named).folder).iterdir()] == [named.file]


def test_a_subfolder_of_the_checkpoints_own_repository_is_fetched(hub: LocalHub, tmp_path: Path) -> None:
    fetched = fetch(hub, tmp_path / "m", Companion(folder="./vit/clip", prefix="vision."))
    assert fetched.folder == "./vit/clip"
    assert sorted(hub.fetched) == ["vit/clip/config.json", "vit/clip/model.safetensors"]


@pytest.mark.parametrize("hub_name", ["folder", "huggingface"])
def test_nothing_is_fetched_for_a_folder_that_is_there(hub: LocalHub, tmp_path: Path, hub_name: str) -> None:
    (tmp_path / "tower").mkdir()
    assert fetch(hub, tmp_path / "m", TOWER, hub=hub_name) == TOWER
    assert hub.fetched == []


def test_nothing_is_fetched_for_tensors_that_the_checkpoint_has(hub: LocalHub, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    index = json.dumps({"weight_map": {"vision.w": "model-1.safetensors"}})
    (tmp_path / "m" / "model.safetensors.index.json").write_text(index)
    assert fetch(hub, tmp_path / "m", TOWER) == TOWER
    assert hub.fetched == []


def test_a_repository_that_is_not_there_is_named(hub: LocalHub, tmp_path: Path) -> None:
    other = dataclasses.replace(TOWER, repo="owner/private")
    with pytest.raises(ConfigError, match=r"model\.repo=owner/private: must be a repository"):
        fetch(hub, tmp_path / "m", other)
