import json
from pathlib import Path

import pytest

from deployer.config.tree import config_tree
from deployer.errors import UsageError
from deployer.listing import listed_models, run

Captured = pytest.CaptureFixture[str]


def test_models_that_run_come_first_and_the_others_say_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engines.families.known_families", lambda: ("internvl",))
    models = {model.name: model for model in listed_models(config_tree(None, ()))}
    assert models["internvl2_8b"].runs == "yes"
    assert models["internvl2_8b"].template == "internvl2-internlm2"
    assert models["qwen_vl_chat"].runs == "no, family qwen_vl is not there yet"
    names = list(models)
    assert names.index("internvl2_76b") < names.index("cogvlm_chat")
    assert names.index("internvl2_8b") < names.index("internvl2_26b")


@pytest.mark.parametrize("word", ["model", "models"])
def test_a_group_is_named_in_singular_or_plural(capsys: Captured, word: str) -> None:
    assert run([word], []) == 0
    assert "InternVL2-8B: InternViT-300M and InternLM2.5-7B" in capsys.readouterr().out


def test_without_a_group_all_groups_are_listed(capsys: Captured) -> None:
    run([], [])
    assert {"engine", "model", "sampling"} <= {
        line.split()[0] for line in capsys.readouterr().out.splitlines()
    }


def test_options_are_listed_with_the_comment_on_top_of_their_file(capsys: Captured) -> None:
    run(["chat-templates"], [])
    assert "The template that the model was trained with" in capsys.readouterr().out


def test_json_is_for_programs(capsys: Captured) -> None:
    run(["engines", "output=json"], [])
    found = json.loads(capsys.readouterr().out)
    assert [row["option"] for row in found["engine"]] == ["auto", "pytorch", "turbomind"]


def test_models_of_an_ops_repository_are_listed_with_the_family_they_start_from(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/acme.yaml").write_text(
        "# Ours.\ndefaults: [qwen_vl_chat@_here_, _self_]\nname: acme\n"
    )
    models = {model.name: model for model in listed_models(config_tree(None, [tmp_path]))}
    assert (models["acme"].family, models["acme"].what) == ("qwen_vl", "Ours.")


def test_recipes_are_listed_by_their_own_verb() -> None:
    with pytest.raises(UsageError, match="`deploy recipe list` shows them"):
        run(["recipes"], [])
