"""The key=value words of `deploy recipe ...`: true, false or text; a word that is not read is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deployer.config.suggest import way_out
from deployer.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """What was typed after a sub-verb."""

    names: list[str]  # words without `=`
    switches: dict[str, bool]
    texts: dict[str, str]


def take_words(
    words: Sequence[str], *, verb: str, switches: Mapping[str, bool], texts: Sequence[str] = ()
) -> Words:
    """Take words apart; `switches` says what holds where nothing is said.

    Raises UsageError for others, and for a key that is given twice.
    """
    names, given = [], {}
    found_texts: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            names.append(word)
        elif key in given or key in found_texts:
            raise UsageError(f"`{word}`: `{key}` is given twice; keep one of them")
        elif key in texts:
            found_texts[key] = value
        elif key not in switches:
            tail = way_out(key, [*switches, *texts], kind="words", prefix="")
            raise UsageError(f"`{word}`: unknown word of `deploy {verb}`: {tail}")
        elif value not in ("true", "false"):
            raise UsageError(f"`{word}`: must be true or false")
        else:
            given[key] = value == "true"
    return Words(names=names, switches={**switches, **given}, texts=found_texts)
