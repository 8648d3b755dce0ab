"""Recipes written by the tool compose to what was asked for."""

from pathlib import Path

import pytest
from ops_repository import Deploy, Ops

from deployer.config import load_config


def test_overrides_become_a_recipe_with_the_figures_of_its_plan(deploy: Deploy, tmp_path: Path) -> None:
    file = tmp_path / "ops/recipes/mine.yaml"
    words = ["+model=internvl2_8b", "engine=turbomind", "engine.tp=2", "hardware=a100", "server.port=9000"]
    code, out, err = deploy("recipe", "new", file, *words)
    assert (code, err) == (0, "")
    assert f"deploy recipe lock {file}" in out
    assert load_config([str(file)]) == load_config([word for word in words if word != "hardware=a100"])
    _, out, _ = deploy("recipe", "show", file)
    assert "hardware    2 x a100" in out
    assert "planned, not measured (" in out
    row = next(line for line in out.splitlines() if line.startswith("kv_tokens"))
    assert row.split()[1] == row.split()[2]


def test_a_copy_is_the_same_under_another_name(deploy: Deploy, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    assert deploy("recipe", "new", file, "from=internvl2_8b_h200")[0] == 0
    assert load_config([str(file)]) == load_config(["+recipe=internvl2_8b_h200"])
    assert "  name: mine\n" in file.read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["mine.yaml", "+model=internvl2_8c"], 3, "nearest options: `internvl2_8b`"),
        (["mine.yaml", "from=internvl2_8b_h20"], 3, "nearest recipes: `internvl2_8b_h200`"),
        (["mine.yaml", "from=internvl2_8b_h200", "engine.tp=2"], 2, "edit the copy"),
        (["mine.yaml", "+model=internvl2_8b", "~engine.tp"], 3, "missing `engine.tp`"),
        (["+model=internvl2_8b"], 2, "name it, as ops/recipes/mine.yaml"),
    ],
)
def test_what_cannot_be_a_recipe_writes_nothing(
    ops: Ops, deploy: Deploy, words: list[str], code: int, message: str
) -> None:
    found, _, err = deploy("recipe", "new", *words)
    assert found == code
    assert message in err
    assert list(Path.cwd().iterdir()) == []


def test_a_file_that_is_there_is_kept(ops: Ops, deploy: Deploy) -> None:
    before = ops.recipe.read_text()
    code, _, err = deploy("recipe", "new", ops.recipe, "+model=internvl2_8b")
    assert code == 2 and "is there already" in err
    assert ops.recipe.read_text() == before
