"""Checkpoints from a hub, against a hub of one repository on loopback."""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from local_hub import GATED, PRIVATE, LocalHub, serve

from deployer.config.schema import ModelConfig
from deployer.errors import ConfigError, UnavailableError
from deployer.hub import fetch_checkpoint
from engines.errors import CheckpointError

REPO = "owner/model"
FILES = {
    "config.json": b"{}",
    "tokenizer.model": b"pieces",
    "merges.txt": b"a b",
    "model.safetensors.index.json": b"{}",
    "model-00001-of-00001.safetensors": b"weights",
    "pytorch_model.bin": b"the same weights again",
    "README.md": b"words",
    "examples/picture.json": b"{}",
    "modeling.py": b"code",
}


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with serve(LocalHub(REPO, {"main": FILES, "v2": {**FILES, "config.json": b'{"v": 2}'}})) as hub:
        yield hub


def config(**changes: Any) -> ModelConfig:
    fields = dict.fromkeys(field.name for field in dataclasses.fields(ModelConfig))
    return ModelConfig(**{**fields, "name": "m", "hub": "huggingface", "repo": REPO, **changes})


def fetch(hub: LocalHub, cache: Path, **changes: Any) -> Path:
    return fetch_checkpoint(config(download_dir=str(cache), **changes), endpoint=hub.endpoint)


def test_a_repository_is_fetched_without_code_duplicates_and_subfolders(
    hub: LocalHub, tmp_path: Path
) -> None:
    folder = fetch(hub, tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [
            "config.json",
            "tokenizer.model",
            "merges.txt",
            "model.safetensors.index.json",
            "model-00001-of-00001.safetensors",
        ]
    )


def test_without_weights_only_descriptions_are_fetched(hub: LocalHub, tmp_path: Path) -> None:
    model = config(download_dir=str(tmp_path))
    folder = fetch_checkpoint(model, weights=False, endpoint=hub.endpoint)
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["config.json", "tokenizer.model", "merges.txt", "model.safetensors.index.json"]
    )


def test_bin_shards_are_fetched_where_there_are_no_safetensors(hub: LocalHub, tmp_path: Path) -> None:
    hub.files = {"main": {name: data for name, data in FILES.items() if "safetensors" not in name}}
    assert (fetch(hub, tmp_path) / "pytorch_model.bin").read_bytes() == b"the same weights again"


def test_download_dir_is_where_files_land_and_are_found_again(hub: LocalHub, tmp_path: Path) -> None:
    first = fetch(hub, tmp_path / "cache")
    assert first.is_relative_to(tmp_path / "cache")
    fetched = len(hub.fetched)
    assert fetch(hub, tmp_path / "cache") == first
    assert len(hub.fetched) == fetched
    assert fetch(hub, tmp_path / "other").is_relative_to(tmp_path / "other")


def test_revision_chooses_what_is_fetched(hub: LocalHub, tmp_path: Path) -> None:
    assert (fetch(hub, tmp_path) / "config.json").read_bytes() == b"{}"
    assert (fetch(hub, tmp_path, revision="v2") / "config.json").read_bytes() == b'{"v": 2}'
    commit = hub.commit("v2")
    assert (fetch(hub, tmp_path, revision=commit) / "config.json").read_bytes() == b'{"v": 2}'


def test_a_fetched_checkpoint_is_served_from_disk_when_the_hub_is_gone(tmp_path: Path) -> None:
    with serve(LocalHub(REPO, {"main": FILES})) as hub:
        folder = fetch(hub, tmp_path)
    assert fetch(hub, tmp_path) == folder


def test_an_unreachable_hub_names_the_way_out(tmp_path: Path) -> None:
    with serve(LocalHub(REPO, {"main": FILES})) as hub:
        pass
    with pytest.raises(UnavailableError, match=r"model.repo=owner/model: cannot be fetched .*model.path=DIR"):
        fetch(hub, tmp_path)


def test_an_unknown_revision_is_named(hub: LocalHub, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"model.revision=v3: must be a branch, tag or commit of owner/model"
    ):
        fetch(hub, tmp_path, revision="v3")


@pytest.mark.parametrize("repo", [PRIVATE, "owner/absent"])
def test_an_unknown_repository_is_named(hub: LocalHub, tmp_path: Path, repo: str) -> None:
    with pytest.raises(ConfigError, match=rf"model.repo={repo}: must be a repository of the hub"):
        fetch(hub, tmp_path, repo=repo)


def test_a_gated_repository_says_how_to_get_access(hub: LocalHub, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match=r"model.repo=owner/gated: .*accept the terms.*model.path=DIR"):
        fetch(hub, tmp_path, repo=GATED)


def test_a_repository_name_is_checked(hub: LocalHub, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.repo=a/b/c: must look like owner/name"):
        fetch(hub, tmp_path, repo="a/b/c")
    with pytest.raises(ConfigError, match=r"model.repo: must name a repository"):
        fetch(hub, tmp_path, repo=None)


def test_progress_goes_to_stderr(hub: LocalHub, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fetch(hub, tmp_path)
    out, err = capfd.readouterr()
    assert out == ""
    assert "5/5" in err or "100%" in err


def test_a_folder_must_exist_and_hold_a_config(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"model.path=.*absent: must be a checkpoint folder; there is no such folder"
    ):
        fetch_checkpoint(config(hub="folder", path=str(tmp_path / "absent")))
    with pytest.raises(CheckpointError, match=r"holds no `config.json`"):
        fetch_checkpoint(config(hub="folder", path=str(tmp_path)))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"it is not a folder"):
        fetch_checkpoint(config(hub="folder", path=str(tmp_path / "config.json")))
    with pytest.raises(ConfigError, match=r"model.path: must be set"):
        fetch_checkpoint(config(hub="folder"))
    assert fetch_checkpoint(config(hub="folder", path=str(tmp_path))) == tmp_path


def test_modelscope_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope", None)
    monkeypatch.setitem(sys.modules, "modelscope.hub.snapshot_download", None)
    with pytest.raises(
        UnavailableError, match=r"`modelscope` is not installed; `pip install 'vlm-deployer\[modelscope\]'"
    ):
        fetch_checkpoint(config(hub="modelscope"))


def test_modelscope_gets_repository_revision_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []

    def snapshot_download(repo: str, **options: Any) -> str:
        calls.append({"repo": repo, **options})
        if "*.bin" in options["allow_patterns"]:
            (tmp_path / "config.json").write_text("{}")
        return str(tmp_path)

    module: Any = ModuleType("modelscope.hub.snapshot_download")
    module.snapshot_download = snapshot_download
    for name in ("modelscope", "modelscope.hub"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    asked = config(hub="modelscope", revision="v2", download_dir="/models")
    assert fetch_checkpoint(asked) == tmp_path
    assert len(calls) == 2  # there were no safetensors, so .bin shards were asked for
    assert {(call["repo"], call["revision"], call["cache_dir"]) for call in calls} == {
        (REPO, "v2", "/models")
    }

    def fails(repo: str, **options: Any) -> str:
        raise RuntimeError("connection reset\nand a long trace")

    module.snapshot_download = fails
    with pytest.raises(
        UnavailableError, match=r"cannot be fetched from ModelScope: connection reset; check the network"
    ):
        fetch_checkpoint(asked)
