"""`deploy chat`: chooses whom to talk to, and hands over to the terminal."""

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from deployer.chat.options import ChatOptions, check_options
from deployer.chat.partner import Partner
from deployer.chat.terminal import Terminal
from deployer.config.load import load_for_verb
from deployer.config.schema import DeployConfig
from deployer.config.suggest import quoted
from deployer.errors import UsageError
from deployer.serve.logs import set_up_logs
from deployer.verbs import VERBS


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Talk until the end of input; returns the exit code.

    With chat.url=... no deployment is needed, and none may be given. Raises ConfigError, UnavailableError or
    EngineError where nobody can be talked to.
    """
    verb = VERBS["chat"]
    if any(word.lstrip("+").startswith("chat.url=") for word in words):
        _refuse_a_deployment(words)
        [options] = load_for_verb(replace(verb, takes="options"), words, config_dirs=config_dirs)
        config = None
    else:
        config, options = load_for_verb(replace(verb, takes="deployment"), words, config_dirs=config_dirs)
    check_options(options)
    set_up_logs("warning")
    with closing(_partner(config, options)) as partner:
        return Terminal(partner, lines=sys.stdin, out=sys.stdout, messages=sys.stderr).run()


def _refuse_a_deployment(words: Sequence[str]) -> None:
    others = [word for word in words if not word.lstrip("+").startswith("chat.")]
    if others:
        raise UsageError(
            f"{quoted(others)}: chat.url=... talks to a server that runs, which has a deployment of its own; "
            "leave one of them out"
        )


def _partner(config: DeployConfig | None, options: ChatOptions) -> Partner:
    if config is None:
        from deployer.chat.remote import RemoteModel

        assert options.url is not None, "without a deployment there is a server"
        return RemoteModel(options.url, options)
    from deployer.chat.local import LocalModel

    return LocalModel(config)
