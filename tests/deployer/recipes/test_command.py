"""`deploy recipe` as users meet it."""

import json

import pytest
from ops_repository import Deploy, Ops


def test_the_list_says_what_was_measured(deploy: Deploy) -> None:
    code, out, _ = deploy("recipe", "list")
    assert code == 0
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert "planned, not measured" in rows["internvl2_8b_a100"]
    assert "measured 2026-11-27" in rows["internvl2_8b_h200"]
    assert "measured 20" in rows["pocket_vl_cpu"]


def test_the_list_is_cut_to_one_kind_of_hardware(deploy: Deploy) -> None:
    _, out, _ = deploy("recipe", "list", "hardware=cpu", "output=json")
    assert {"internvl2_1b_cpu", "pocket_vl_cpu"} <= {row["recipe"] for row in json.loads(out)["recipes"]}
    assert {row["hardware"] for row in json.loads(out)["recipes"]} == {"cpu"}
    code, _, err = deploy("recipe", "list", "hardware=h20")
    assert code == 2
    assert (
        "hardware=h20 (command line `hardware=h20`): no recipe is for it; there are recipes for `a100`" in err
    )


def test_recipes_of_a_config_folder_are_listed_first(ops: Ops, deploy: Deploy) -> None:
    _, out, _ = deploy("recipe", "list", "--config-dir", ops.root, "output=json")
    first = json.loads(out)["recipes"][0]
    assert (first["recipe"], first["locked"], first["hardware"]) == ("prod", "no", "cpu")


def test_a_recipe_is_called_by_path_by_its_lock_and_by_name(locked: Ops, deploy: Deploy) -> None:
    shown = [
        deploy("recipe", "show", locked.recipe)[1],
        deploy("recipe", "show", locked.lock)[1],
        deploy("recipe", "show", "prod", "--config-dir", locked.root / "recipes")[1],
    ]
    assert shown[0] == shown[1] == shown[2]
    assert "prod.lock.json, written 20" in shown[0]


def test_what_was_measured_is_not_shown_as_if_the_same_requests_were_planned(deploy: Deploy) -> None:
    note = "measured with the requests that the recipe's file tells"
    assert note in deploy("recipe", "show", "internvl2_8b_h200")[1]
    assert note not in deploy("recipe", "show", "internvl2_8b_a100")[1]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "deploy recipe lock RECIPE"),
        (["verfy"], 2, "unknown sub-verb `verfy`: nearest sub-verbs: `verify`"),
        (["verify"], 2, "takes one recipe, a file or a name, and got 0"),
        (["verify", "gone.yaml"], 2, "recipe `gone.yaml`: there is no such file"),
        (["verify", "internvl2_8b_h20"], 3, "nearest recipes: `internvl2_8b_h200`"),
        (["verify", "x", "smok=false"], 2, "nearest words: `smoke`"),
        (["verify", "x", "smoke=no"], 2, "must be true or false"),
        (["verify", "x", "--offlin"], 2, "unknown flag `--offlin`"),
        (["drift", "x"], 2, "add --against http://host:port"),
        (["drift", "x", "--against"], 2, "--against: needs a value"),
    ],
)
def test_a_mistake_is_named(deploy: Deploy, words: list[str], code: int, message: str) -> None:
    found, out, err = deploy("recipe", *words)
    assert (found, out) == (code, "")
    assert message in err
