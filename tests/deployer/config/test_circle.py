"""Files whose defaults lists lead back to themselves are named, with the way there."""

from pathlib import Path

import pytest

from deployer.config.load import load_config
from deployer.errors import ConfigError

RULE = "): a file that is found earlier replaces the one of its name, and cannot be made of it; give it"


def told(folder: Path, *words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config([str(word) for word in words], config_dirs=[folder])
    (fault,) = caught.value.faults
    assert RULE in fault
    return fault


def write(folder: Path, **files: str) -> None:
    (folder / "model").mkdir(exist_ok=True)
    for name, defaults in files.items():
        (folder / "model" / f"{name}.yaml").write_text(f"defaults: [{defaults}, _self_]\n")


def test_a_file_cannot_be_made_of_the_one_that_it_replaces(tmp_path: Path) -> None:
    """What ships is no longer found under its name, so the list names the file itself."""
    write(tmp_path, internvl2_8b="internvl2_8b@_here_")
    fault = told(tmp_path, "+model=internvl2_8b")
    assert fault.startswith(f"{tmp_path / 'model/internvl2_8b.yaml'}: its defaults lead back to itself (")
    assert "(model/internvl2_8b -> model/internvl2_8b)" in fault


@pytest.mark.parametrize("back", ["one@_here_", "{/model@_here_: [one]}"])
def test_a_longer_way_is_told_from_file_to_file(tmp_path: Path, back: str) -> None:
    write(tmp_path, one="two@_here_", two=back, three="one@_here_")
    assert "(model/one -> model/two -> model/one)" in told(tmp_path, "+model=three")


def test_a_recipe_that_lists_itself_is_named(tmp_path: Path) -> None:
    recipe = tmp_path / "prod.yaml"
    recipe.write_text("defaults: [deploy, prod, {model: pocket_vl}, _self_]\n")
    fault = told(tmp_path, str(recipe))
    assert fault.startswith(f"{recipe}: its defaults lead back to itself (prod -> prod)")


def test_a_file_that_a_list_names_and_that_is_not_there_is_named_with_those_near_it(tmp_path: Path) -> None:
    write(tmp_path, one="pocket_v@_here_")
    with pytest.raises(ConfigError) as caught:
        load_config(["+model=one"], config_dirs=[tmp_path])
    file = tmp_path / "model/one.yaml"
    assert list(caught.value.faults) == [f"unknown model `pocket_v` ({file}): nearest options: `pocket_vl`"]
