from pathlib import Path

from deployer.config.repositories import options_by_repository
from deployer.config.tree import config_tree


def test_a_repository_is_found_whatever_its_case() -> None:
    assert options_by_repository(config_tree(None, ()))["opengvlab/internvl2-8b"] == "internvl2_8b"


def test_an_option_of_ones_own_counts_too(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "ours.yaml").write_text("name: ours\nrepo: Acme/VL  # a fine-tune\n")
    assert options_by_repository(config_tree(None, [tmp_path]))["acme/vl"] == "ours"
