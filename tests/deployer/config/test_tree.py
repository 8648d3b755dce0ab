from pathlib import Path

import pytest

from deployer.config.tree import config_tree
from deployer.errors import ConfigError, UsageError


def test_the_built_in_tree_has_the_groups_that_a_deployment_is_made_of() -> None:
    groups = config_tree(None, ()).groups()
    assert {
        "model",
        "engine",
        "quantization",
        "vision",
        "chat_template",
        "sampling",
        "server",
        "target",
    } <= set(groups)


def test_parts_of_options_are_no_options() -> None:
    tree = config_tree(None, ())
    assert not [name for group in tree.groups() for name in tree.options(group) if name.startswith("_")]
    assert "_decoder" not in tree.groups()


def test_folders_of_an_ops_repository_come_first(ops: Path) -> None:
    tree = config_tree(None, [ops / "conf"])
    assert "acme" in tree.options("model")
    assert tree.file("model/acme") == ops / "conf/model/acme.yaml"
    assert tree.folders[0] == ops / "conf"


def test_a_recipe_brings_the_config_folder_beside_it(ops: Path) -> None:
    tree = config_tree(str(ops / "recipes/prod.yaml"), ())
    assert tree.primary == "prod"
    assert tree.folders[:2] == (ops / "recipes", ops / "conf")


def test_a_config_folder_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        config_tree(None, [tmp_path / "gone"])


def test_a_recipe_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="there is no such file"):
        config_tree("gone.yaml", ())


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(ConfigError, match=r"--config-dir .*: cannot be read; let this user read it"):
        config_tree(None, [tmp_path])
