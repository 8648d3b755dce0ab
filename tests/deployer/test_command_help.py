import pytest

from deployer.cli import main
from deployer.verbs import VERBS


def test_help_shows_usage_examples_and_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("--help", "-h", "help"):
        assert main([word]) == 0
        out = capsys.readouterr().out
        assert out.startswith("usage: deploy")
        assert out.index("deploy +model=pocket_vl") < out.index("explain ")
        assert all(f"  {name} " in out for name in VERBS)
