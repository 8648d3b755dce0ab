"""What is read of a checkpoint before its engine starts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from llava_golden import FOLDERS
from timm_process import imported_timm
from tiny_checkpoint import CONFIG

from deployer.config.load import load_config
from deployer.config.schema import ModelConfig
from deployer.errors import ConfigError, UnavailableError
from deployer.generation.open_model import check_family, differences, open_model
from engines.errors import CheckpointError
from engines.vision.towers.timm_spec import TimmSpec

LLAVA = FOLDERS["v15_orig_legacy_type"]

MODEL = ModelConfig(
    name="tiny", family="internvl", hub="folder", repo=None, revision=None, path=None, download_dir=None,
    template=None, hyper_parameters=None,
)  # fmt: skip


def written(folder: Path, text: str) -> ModelConfig:
    (folder / "config.json").write_text(text)
    return replace(MODEL, path=str(folder))


def test_a_tower_is_put_only_where_config_json_names_one(tmp_path: Path) -> None:
    told = "vision.name=test_vit: config.json of this model names no tower"
    with pytest.raises(ConfigError, match=told):
        open_model(written(tmp_path, json.dumps(CONFIG)), tower="test_vit")


def test_vision_timm_without_a_name_is_an_error(tmp_path: Path) -> None:
    name = load_config(["+model=llava_v1_5_7b", "vision=timm"]).vision.name
    with pytest.raises(ConfigError, match=r"vision\.name is empty: vision=timm needs the name"):
        open_model(written(tmp_path, json.dumps(CONFIG)), tower=name)


def test_vision_name_puts_timms_model_in_the_place_of_the_tower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported_timm(monkeypatch)
    config = json.loads((LLAVA / "config.json").read_text()) | {
        "mm_vision_tower": "own",
        "mm_hidden_size": 64,
    }
    model = open_model(written(tmp_path, json.dumps(config)), tower="test_vit")
    assert model.spec.vision is not None
    tower = model.spec.vision.towers[0]
    assert isinstance(tower, TimmSpec)
    assert (tower.name, tower.select_layer, tower.hidden) == ("test_vit", -2, 64)


def test_the_checkpoint_counts_and_what_differs_is_named(tmp_path: Path) -> None:
    expected = {
        "template": "internlm2-chat",
        "downsample_ratio": 0.25,
        "llm_config": {"hidden_size": 4096, "vocab_size": CONFIG["llm_config"]["vocab_size"]},
        "not_in_the_file": 1,
    }
    model = open_model(replace(written(tmp_path, json.dumps(CONFIG)), hyper_parameters=expected))
    assert model.spec.decoder.hidden == CONFIG["llm_config"]["hidden_size"]
    assert model.folder == tmp_path
    assert model.differences == (
        "`downsample_ratio` is 0.5 in the checkpoint, 0.25 in the model option",
        "`llm_config.hidden_size` is 32 in the checkpoint, 4096 in the model option",
    )


def test_equal_values_are_no_difference() -> None:
    assert list(differences(CONFIG, json.loads(json.dumps(CONFIG)))) == []


def test_a_config_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config.json is not JSON: .*; fetch the checkpoint again"):
        open_model(written(tmp_path, "{"))


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="NovelModel"):
        open_model(written(tmp_path, json.dumps({"architectures": ["NovelModel"], "model_type": "novel"})))


def test_a_family_without_a_network_is_refused_with_those_that_run() -> None:
    check_family(MODEL)
    check_family(replace(MODEL, family=None))
    with pytest.raises(
        UnavailableError, match=r"`novel` can be .* not run .*families that run: .*`internvl`"
    ):
        check_family(replace(MODEL, family="novel"))
