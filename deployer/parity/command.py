"""`deploy parity`: what a checkpoint gives on an engine here, against what its reference gave.

deploy parity model.path=DIR [engine=turbomind] [engine.dtype=bfloat16] [output=json]
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from deployer.config.devices import choose_engine
from deployer.config.engine_options import engine_options
from deployer.config.load import load_for_verb
from deployer.errors import EXIT_OK, EXIT_UNEXPECTED, ConfigError
from deployer.generation.open_model import open_model
from deployer.parity.options import check_options
from deployer.verbs import VERBS

# What a deployment needs and parity does not: prompts are token ids.
_DEFAULTS = {"model": "+model=local", "chat_template": "chat_template=chatml"}


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Print the table; returns 0 where all of it holds, else 1.

    Raises ConfigError for a folder that cannot be read, UnavailableError and EngineError for what cannot run.
    """
    verb = replace(VERBS["parity"], takes="deployment")
    config, options = load_for_verb(verb, _completed(words), config_dirs=config_dirs)
    check_options(options)
    if config.engine.tp != 1:
        raise ConfigError(
            [f"engine.tp={config.engine.tp}: the checkpoints of parity are run by one rank; use engine.tp=1"]
        )
    choice = choose_engine(config.engine)
    model = open_model(config.model, tower=config.vision.name)
    from deployer.parity.measure import measure
    from deployer.parity.report import print_json, print_parity

    parity = measure(model.folder, model.spec, engine_options(config, choice), options)
    (print_json if options.output == "json" else print_parity)(parity, out=sys.stdout)
    return EXIT_OK if parity.holds else EXIT_UNEXPECTED


def _completed(words: Sequence[str]) -> list[str]:
    given = {word.lstrip("+").partition("=")[0] for word in words}
    return [*(word for name, word in _DEFAULTS.items() if name not in given), *words]
