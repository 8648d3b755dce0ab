"""Recipes found by name, and the block that says what they are."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deployer.config import load_config
from deployer.config.load import load_for_verb
from deployer.errors import ConfigError
from deployer.verbs import VERBS

HEADER = """\
recipe:
  schema: 1
  name: prod
  version: "1"
  description: ours
  hardware: l40s
  tolerance: 0.5
  expected: null
"""
# basis, figures
EXPECTED = "expected: {{basis: {}, date: '2026-11-22', machine: null, commit: null, figures: {{{}}}}}"


@pytest.fixture
def recipe(ops: Path) -> Path:
    """A recipe of an ops repository, with a block."""
    path = ops / "recipes/prod.yaml"
    path.write_text(HEADER + path.read_text())
    return path


@pytest.mark.parametrize("word", ["+recipe=prod", "recipe=prod"])
@pytest.mark.parametrize("folder", [".", "recipes"])
def test_a_recipe_below_a_config_folder_is_found_by_name(recipe: Path, word: str, folder: str) -> None:
    config = load_config([word, "engine.tp=2"], config_dirs=[recipe.parents[1] / folder])
    assert (config.model.name, config.server.port, config.engine.tp) == ("acme", 9000, 2)


def test_a_recipe_that_ships_is_found_by_name_from_anywhere(ops: Path) -> None:
    assert load_config(["+recipe=internvl2_8b_h200"]).engine.kind == "turbomind"


def test_ours_counts_before_what_ships(ops: Path) -> None:
    own = ops / "recipes/internvl2_8b_h200.yaml"
    own.write_text((ops / "recipes/prod.yaml").read_text())
    assert load_config(["+recipe=internvl2_8b_h200"], config_dirs=[ops]).model.name == "acme"


def test_an_unknown_recipe_names_the_near_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown recipe `internvl2_8b_h20` .*: nearest recipes: `internvl2_8b_h200`"
    ):
        load_config(["+recipe=internvl2_8b_h20"])


def test_a_recipe_chooses_the_hardware_that_is_planned_for(recipe: Path) -> None:
    assert load_for_verb(VERBS["plan"], [str(recipe)])[2].name == "l40s"
    assert load_for_verb(VERBS["plan"], [str(recipe), "hardware=a100"])[2].name == "a100"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  hardware: l40s", "  hardwar: l40s", "prod.yaml:6): nearest keys: `recipe.hardware`"),
        ("hardware: l40s", "hardware: l40", "recipe.hardware='l40' ({}:6): nearest options: `l40s`"),
        ('version: "1"', "version: 1.0", "is read as the number 1.0; for text quote it"),
        ("name: prod", "name: production", "must be the file's name, `prod`"),
        ("tolerance: 0.5", "tolerance: 0", "recipe.tolerance=0.0 ({}:7): must be above 0"),
        ("schema: 1", "schema: 9", "upgrade the tool: pip install -U vlm-deployer"),
        ("schema: 1", "schema: one", "recipe.schema='one' ({}:2): must be a whole number"),
        (
            "expected: null",
            EXPECTED.format("measured", "speed: 1"),
            "measured figures name their `machine` and `commit`",
        ),
        (
            "expected: null",
            EXPECTED.format("planned", "speed: 1"),
            "unknown figure `speed`",
        ),
        (
            "expected: null",
            EXPECTED.format("planned", "batch: fast"),
            "`batch` must be a number above 0",
        ),
    ],
)
def test_a_block_that_does_not_hold_is_refused(
    recipe: Path, faults_of: Callable[..., tuple[str, ...]], old: str, new: str, message: str
) -> None:
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new, 1))
    assert message.format(recipe) in "\n".join(faults_of(str(recipe)))


def test_faults_of_the_block_and_of_the_deployment_come_together(
    recipe: Path, faults_of: Callable[..., tuple[str, ...]]
) -> None:
    recipe.write_text(recipe.read_text().replace("hardware: l40s", "hardware: l40").replace("port:", "prot:"))
    text = "\n".join(faults_of(str(recipe)))
    assert "recipe.hardware='l40'" in text and "unknown key `server.prot`" in text


def test_a_recipe_is_not_renamed_on_the_command_line(
    recipe: Path, faults_of: Callable[..., tuple[str, ...]]
) -> None:
    (fault,) = faults_of(str(recipe), "recipe.version=2")
    assert fault == "`recipe.version=2`: a recipe says this of itself, in its file"
