"""`deploy --help`: what there is, a line a verb; behind a verb its own help."""

from collections.abc import Sequence

from deployer.command_words import is_bare, unknown_verb
from deployer.errors import UsageError
from deployer.verbs import VERBS

HELP_HEAD = """\
usage: deploy [verb] [recipe.yaml] [+model=<name>] [<group>=<option>] [<key>=<value>] [--config-dir DIR]

  deploy +model=pocket_vl                                    serve the model that ships, on 127.0.0.1:23333
  deploy +model=internvl2_8b engine=turbomind engine.tp=2    choose the engine, split over two GPUs
  deploy +recipe=pocket_vl_cpu server.port=8000              serve a recipe that ships, changed
  deploy explain engine.tp +model=internvl2_8b               see what set a value
  deploy -m bench +model=pocket_vl engine.max_batch_size=8,16   measure several deployments
"""
HELP_TAIL = """
  --config-dir DIR  more config folders, searched before ours (repeatable)
  -m, --multirun    with bench: sweep over key=a,b, key=range(a,b), key=choice(a,b), group=glob(x*)
  --version         print the version
  --help            print this; after a verb: its usage, examples and keys

`model=x` and `+model=x` mean the same. A recipe is a word that ends in .yaml, or +recipe=<name>.
NO_COLOR=1: no colour.
Exit codes: 0 done, 1 a fault of ours, 2 usage, 3 invalid config, 4 plan does not fit, 5 not what was locked,
6 something is missing, 130 interrupted. `doctor` and `recipe drift` answer 1 where a machine lacks something
or a server is another one.
"""


def help_for(words: Sequence[str]) -> str:
    """Return the help of the verb that the words name, or the general one. Raises UsageError."""
    names = [word for word in words if word not in ("help", "-h", "--help") and is_bare(word)]
    if not names:
        return help_text()
    if names[0] not in VERBS:
        raise UsageError(unknown_verb(names[0]))
    from deployer.verb_help import verb_help

    return verb_help(names[0])


def help_text() -> str:
    """Return what --help prints."""
    lines = [HELP_HEAD]
    for section in ("Run", "Understand", "Recipes", "Ship", "Make", "Measure", "Shell"):
        verbs = [(name, verb) for name, verb in VERBS.items() if verb.section == section]
        if verbs:
            lines.append(f"{section}\n" + "".join(f"  {name:12} {verb.summary}\n" for name, verb in verbs))
    return "\n".join(lines) + HELP_TAIL
