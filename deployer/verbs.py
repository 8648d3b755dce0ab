"""The verbs of the command line: what each does, and the function behind it, imported when it runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionGroup:
    """A group of conf/ that only one verb reads; it is composed for no other."""

    name: str  # folder below conf/
    option: str  # where it starts from
    kind: str  # module:dataclass, frozen; its fields are the keys


@dataclass(frozen=True, kw_only=True, slots=True)
class Verb:
    """One command.

    `takes` says what the function gets first: `deployment` (the validated `DeployConfig`), `options`
    (nothing) or `words` (what was typed after the verb, and the --config-dir folders). The dataclasses of
    `groups` follow in their order; `output=x` is short for the first group's own `output`.
    """

    summary: str
    section: Literal["Run", "Understand", "Recipes", "Measure", "Shell"]
    run: str  # module:function, returns the exit code
    takes: Literal["deployment", "options", "words"] = "deployment"
    groups: tuple[OptionGroup, ...] = ()
    flags: tuple[str, ...] = ()  # `--name`, short for name=true; `--name=`, which takes the next word


VERBS: Mapping[str, Verb] = {
    "serve": Verb(
        section="Run",
        summary="start the engine and the OpenAI server (what `deploy` does without a verb)",
        run="deployer.config.resolve:start",
    ),
    "chat": Verb(
        section="Run",
        summary="talk to a model in the terminal, pictures included, or to a server (chat.url=...)",
        run="deployer.chat.command:run",
        takes="words",
        groups=(OptionGroup(name="chat", option="default", kind="deployer.chat.options:ChatOptions"),),
    ),
    "explain": Verb(
        section="Understand",
        summary="print every value of a deployment with what set it",
        run="deployer.config.explain:run",
        takes="words",
    ),
    "plan": Verb(
        section="Understand",
        summary="print what a deployment needs and reaches on a GPU that need not be here",
        run="deployer.plan.command:run",
        groups=(
            OptionGroup(name="plan", option="default", kind="deployer.plan.options:PlanOptions"),
            OptionGroup(name="hardware", option="h200", kind="deployer.plan.hardware:Hardware"),
        ),
    ),
    "render": Verb(
        section="Understand",
        summary="print the prompt of a messages file with its tokens and pictures (render.messages=FILE)",
        run="deployer.render:run",
        groups=(OptionGroup(name="render", option="default", kind="deployer.render:RenderOptions"),),
    ),
    "list": Verb(
        section="Understand",
        summary="list what there is: models, engines, sampling, ...",
        run="deployer.listing:run",
        takes="words",
    ),
    "recipe": Verb(
        section="Recipes",
        summary="list, show, new, lock, verify, diff, upgrade, drift: deployments that are kept and held to",
        run="deployer.recipes.command:run",
        takes="words",
        flags=("--offline", "--against="),
    ),
    "diff": Verb(
        section="Recipes",
        summary="print how two deployments differ (recipes, locks, overrides, a running server)",
        run="deployer.recipes.diff:run",
        takes="words",
    ),
    "bench": Verb(
        section="Measure",
        summary="measure the engine alone and through the server, or a server that runs (bench.url=...)",
        run="deployer.bench.run:run",
        groups=(
            OptionGroup(name="bench", option="default", kind="deployer.bench.options:BenchOptions"),
            OptionGroup(name="hardware", option="h200", kind="deployer.plan.hardware:Hardware"),
        ),
    ),
    "parity": Verb(
        section="Measure",
        summary="hold a checkpoint to what its reference implementation computed (model.path=DIR)",
        run="deployer.parity.command:run",
        takes="words",
        groups=(OptionGroup(name="parity", option="default", kind="deployer.parity.options:ParityOptions"),),
    ),
    "evaluate": Verb(
        section="Measure",
        summary="ask held-out questions about pictures and print the accuracy by kind",
        run="deployer.pocket_vl.evaluate:run",
        groups=(
            OptionGroup(
                name="evaluate",
                option="default",
                kind="deployer.pocket_vl.evaluate_options:EvaluateOptions",
            ),
        ),
    ),
    "completion": Verb(
        section="Shell",
        summary="print a completion script: bash, zsh or fish",
        run="deployer.completion:run",
        takes="words",
    ),
}
