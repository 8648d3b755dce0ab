from pathlib import Path

import pytest

from deployer.config import load_config
from deployer.config.compose import compose
from deployer.errors import ConfigError, UsageError


def fault_of(*words: str, config_dirs: tuple[Path, ...] = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        compose(words, config_dirs=config_dirs)
    return str(caught.value)


@pytest.mark.parametrize("word", ["model=internvl2_2b", "+model=internvl2_2b", "++model=internvl2_2b"])
def test_the_model_is_named_with_or_without_a_plus(word: str) -> None:
    assert load_config([word]).model.name == "internvl2_2b"


@pytest.mark.parametrize("word", ["engine.tp=2", "+engine.tp=2", "++engine.tp=2"])
def test_a_value_is_set_with_or_without_a_plus(word: str) -> None:
    assert load_config(["+model=internvl2_2b", word]).engine.tp == 2


def test_a_key_that_is_given_twice_is_told_with_all_other_faults() -> None:
    told = fault_of("+model=internvl2_1b", "model=internvl2_2b", "engine.tp=2", "engine.tp=4", "engine=turbo")
    assert [line.split()[0] for line in told.splitlines()] == ["unknown", "`model`", "`engine.tp`"]


def test_a_model_may_choose_how_it_samples_and_the_command_line_still_wins() -> None:
    assert load_config(["+model=pocket_vl"]).sampling.temperature == 0
    assert load_config(["sampling=default", "+model=pocket_vl"]).sampling.temperature > 0


def test_without_a_model_the_message_says_how_to_name_one() -> None:
    assert fault_of("engine.tp=2").startswith("missing `model`: add +model=<name>")


def test_interpolation_carries_a_value_on() -> None:
    words = ["+model=internvl2_2b", "server.model_name=${model.repo}"]
    assert load_config(words).server.model_name == "OpenGVLab/InternVL2-2B"


def test_a_bad_interpolation_names_its_key_and_origin() -> None:
    fault = fault_of("+model=internvl2_2b", "server.model_name=${model.nam}")
    assert fault.startswith("server.model_name=${model.nam} (command line `server.model_name=${model.nam}`)")
    assert "model.nam" in fault.partition("cannot be filled in")[2]


def test_an_interpolation_to_a_missing_value_names_the_missing_value() -> None:
    fault = fault_of("+model=local", "model.name=${model.path}")
    assert "`model.path` has no value; set model.path=<value>" in fault


def test_all_bad_interpolations_are_reported() -> None:
    words = [
        "+model=internvl2_2b",
        "server.model_name=${a.b}",
        "server.host=${c}",
        "model.name=${oc.env:NOT_SET_HERE}",
    ]
    assert len(fault_of(*words).splitlines()) == 3


def test_the_environment_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-1")
    assert load_config(["+model=internvl2_2b", "server.api_keys=['${oc.env:MY_KEY}']"]).server.api_keys == [
        "sk-1"
    ]


def test_a_file_that_is_a_list_is_named(ops: Path) -> None:
    (ops / "conf/model/list.yaml").write_text("- a\n- b\n")
    assert "model/list" in fault_of("+model=list", config_dirs=(ops / "conf",))


def test_a_malformed_defaults_list_is_a_fault(ops: Path) -> None:
    (ops / "conf/model/bad.yaml").write_text("defaults:\n  - engine: 3\nname: x\n")
    assert "in defaults" in fault_of("+model=bad", config_dirs=(ops / "conf",))


def test_binary_files_are_no_config(ops: Path) -> None:
    (ops / "conf/model/binary.yaml").write_bytes(b"\x00\x01\xff")
    assert fault_of("+model=binary", config_dirs=(ops / "conf",))


def test_deleting_what_is_not_there_is_a_fault() -> None:
    assert "engine.foo" in fault_of("+model=internvl2_2b", "~engine.foo")


def test_an_ops_repository_adds_options_from_another_folder(ops: Path) -> None:
    config = load_config(["+model=acme", "engine=small"], config_dirs=[ops / "conf"])
    assert config.model.repo == "acme/vl"
    assert config.engine.max_batch_size == 4


def test_an_ops_repository_may_replace_an_option_that_ships(ops: Path) -> None:
    shadow = ops / "conf/model/internvl2_2b.yaml"
    shadow.write_text((ops / "conf/model/acme.yaml").read_text().replace("internvl2_2b@", "internvl2_1b@"))
    assert load_config(["+model=internvl2_2b"], config_dirs=[ops / "conf"]).model.name == "acme"


def test_a_recipe_runs_by_path_with_changes_on_the_command_line(ops: Path) -> None:
    config = load_config([str(ops / "recipes/prod.yaml"), "engine.tp=2"])
    assert (config.model.name, config.engine.max_batch_size) == ("acme", 4)
    assert (config.server.port, config.engine.tp) == (9000, 2)


@pytest.mark.parametrize("word", ["model=internvl2_1b", "+model=internvl2_1b"])
def test_the_model_of_a_recipe_is_replaced_in_both_spellings(ops: Path, word: str) -> None:
    assert load_config([str(ops / "recipes/prod.yaml"), word]).model.name == "internvl2_1b"


def test_two_recipes_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match="one recipe"):
        compose(["a.yaml", "b.yaml"])


def test_hydra_settings_in_a_recipe_are_refused(ops: Path) -> None:
    recipe = ops / "recipes/prod.yaml"
    recipe.write_text(recipe.read_text() + "\nhydra:\n  run:\n    dir: /tmp/x\n")
    assert "prod.yaml:13" in fault_of(str(recipe))
    assert "no effect" in fault_of(str(recipe))


def test_broken_yaml_names_file_and_line(ops: Path) -> None:
    (ops / "conf/model/broken.yaml").write_text("name: x\nrepo: [a, b\nfamily: internvl\n")
    fault = fault_of("+model=broken", config_dirs=(ops / "conf",))
    assert "model/broken.yaml:3" in fault
    assert "is not YAML" in fault


def test_a_key_written_twice_names_file_and_line(ops: Path) -> None:
    (ops / "conf/model/twice.yaml").write_text("name: x\nname: y\n")
    fault = fault_of("+model=twice", config_dirs=(ops / "conf",))
    assert "model/twice.yaml:2" in fault


def test_an_unknown_option_inside_a_file_names_the_file_and_the_near_ones(ops: Path) -> None:
    (ops / "recipes/bad.yaml").write_text("defaults:\n  - deploy\n  - model: internvl2_9b\n  - _self_\n")
    fault = fault_of(str(ops / "recipes/bad.yaml"))
    assert "unknown model `internvl2_9b`" in fault
    assert "recipes/bad.yaml" in fault
    assert "`internvl2_8b`" in fault


def test_composing_leaves_no_global_state_behind() -> None:
    from hydra.core.global_hydra import GlobalHydra

    compose(["+model=internvl2_2b"])
    assert not GlobalHydra.instance().is_initialized()
