import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployer.config import load_config

Faults = Callable[..., tuple[str, ...]]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Return a folder with the config.json of an InternVL2-1B."""
    parameters = load_config(["+model=internvl2_1b"]).model.hyper_parameters
    folder = tmp_path / "my model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(parameters))
    return folder


def local(folder: Path) -> list[str]:
    return ["+model=local", f"model.path='{folder}'"]


def rewrite(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_local_folder_tells_family_template_and_sizes(checkpoint: Path) -> None:
    config = load_config(local(checkpoint))
    assert config.model.family == "internvl"
    assert config.chat_template.name == config.model.template == "internvl2-internlm2"
    assert config.model.hyper_parameters is not None
    assert config.model.hyper_parameters["llm_config"]["num_key_value_heads"] == 2


def test_a_folder_may_name_a_template_of_ours(checkpoint: Path) -> None:
    rewrite(checkpoint, template="internvl2-phi3")
    assert load_config(local(checkpoint)).chat_template.name == "internvl2-phi3"


def test_what_is_set_already_stays(checkpoint: Path) -> None:
    assert (
        load_config([*local(checkpoint), "chat_template=internvl2-phi3"]).chat_template.name
        == "internvl2-phi3"
    )
    assert load_config([*local(checkpoint), "model.template=internvl-zh"]).chat_template.name == "internvl-zh"


def test_rules_hold_for_a_local_folder_too(faults_of: Faults, checkpoint: Path) -> None:
    (fault,) = faults_of(*local(checkpoint), "engine.tp=4")
    assert "must divide the 2 KV heads of `local`; use 1 or 2" in fault


def test_a_repository_is_no_folder_and_needs_the_option_of_its_kind(faults_of: Faults) -> None:
    (fault,) = faults_of("+model=local", "model.hub=huggingface", "model.repo=me/tuned")
    assert fault.startswith("model.repo=me/tuned (command line `model.repo=me/tuned`): only a folder tells")
    assert "write +model=<what it was made from> model.repo=me/tuned" in fault
    assert load_config(["+model=internvl2_1b", "model.repo=me/tuned"]).model.repo == "me/tuned"


def test_a_path_that_was_not_given_is_asked_for(faults_of: Faults) -> None:
    (fault,) = faults_of("+model=local")
    assert fault.startswith("missing `model.path` (conf/model/local.yaml:8): set model.path=")


def test_a_path_that_is_no_folder_is_named(faults_of: Faults, tmp_path: Path) -> None:
    (fault,) = faults_of(*local(tmp_path / "gone"))
    assert "is not a folder" in fault and "gone" in fault


def test_a_folder_without_a_config_is_named(faults_of: Faults, tmp_path: Path) -> None:
    (fault,) = faults_of(*local(tmp_path))
    assert "its config.json cannot be read" in fault


def test_a_truncated_config_is_named(faults_of: Faults, checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text('{"architectures": [')
    (fault,) = faults_of(*local(checkpoint))
    assert "is not JSON" in fault


def test_a_config_that_is_no_object_is_named(faults_of: Faults, checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text("[]")
    (fault,) = faults_of(*local(checkpoint))
    assert "must be an object" in fault


def test_an_unknown_architecture_is_named_with_the_known_ones(faults_of: Faults, checkpoint: Path) -> None:
    rewrite(checkpoint, architectures=["MysteryModel"], model_type="mystery")
    (fault,) = faults_of(*local(checkpoint))
    assert "`MysteryModel`" in fault and "InternVLChatModel" in fault


def test_an_unknown_template_asks_for_a_choice(faults_of: Faults, checkpoint: Path) -> None:
    rewrite(checkpoint, template="my-own")
    (fault,) = faults_of(*local(checkpoint))
    assert "choose chat_template=<name>: `bare`, `chatml`, " in fault
    assert (
        load_config([*local(checkpoint), "chat_template=internvl2-phi3"]).chat_template.name
        == "internvl2-phi3"
    )
