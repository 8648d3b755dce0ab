import pytest

from deployer.config.words import group_of, is_recipe_file


@pytest.mark.parametrize(
    ("word", "group"),
    [("engine.tp=2", "engine"), ("+model=x", "model"), ("~vision", "vision"), ("hardware=h200", "hardware")],
)
def test_a_word_belongs_to_the_group_that_it_changes(word: str, group: str) -> None:
    assert group_of(word) == group


def test_a_recipe_is_a_path_and_no_setting() -> None:
    assert is_recipe_file("ops/prod.yaml") and is_recipe_file("prod.yml")
    assert not is_recipe_file("render.out=a.yaml") and not is_recipe_file("prod")
