"""The verbs of the command line: what each does, and the function behind it, imported when it runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Verb:
    """One command.

    `takes` says what the function gets: `deployment` (the validated `DeployConfig`), `options` (only its own
    group) or `words` (what was typed after the verb, and the --config-dir folders). A verb with a `group` of its
    own gets that group's dataclass last; the group is composed for no other verb.
    """

    summary: str
    section: Literal["Run", "Understand", "Measure", "Shell"]
    run: str  # module:function, returns the exit code
    takes: Literal["deployment", "options", "words"] = "deployment"
    group: str | None = None  # folder below conf/
    option: str = "default"  # where that group starts from
    options: str | None = None  # module:dataclass of that group


VERBS: Mapping[str, Verb] = {
    "serve": Verb(
        section="Run",
        summary="start the engine and the OpenAI server (what `deploy` does without a verb)",
        run="deployer.config.resolve:start",
    ),
    "explain": Verb(
        section="Understand",
        summary="print every value of a deployment with what set it",
        run="deployer.config.explain:run",
        takes="words",
    ),
    "list": Verb(
        section="Understand",
        summary="list what there is: models, engines, sampling, ...",
        run="deployer.listing:run",
        takes="words",
    ),
    "completion": Verb(
        section="Shell",
        summary="print a completion script: bash, zsh or fish",
        run="deployer.completion:run",
        takes="words",
    ),
}
