import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from deployer.config.override_text import override_text


@pytest.mark.parametrize(
    "text",
    [
        *("plain", "a/b.c-d", "/tmp/x-1", "./x", "../y", ".5", "True", "null", "NaN", "12", "1.5", ""),
        *(
            "two words",
            "it's",
            "a\\b",
            "a\\",
            "a\\'b",
            "a,b",
            "[a]",
            "{a: b}",
            "a=b",
            "${a}",
            "#a",
            "*",
            "日本",
        ),
    ],
)
def test_the_grammar_reads_the_same_text(text: str) -> None:
    assert OverridesParser.create().parse_override(f"key={override_text(text)}").value() == text
