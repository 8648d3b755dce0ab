"""The command line: a verb (the first bare word, else `serve`), a recipe, overrides.

    deploy [verb] [recipe.yaml] [+model=name] [group=option] [key=value] [--config-dir DIR]

Data goes to stdout, messages to stderr. Exit codes: 0 done, 1 a fault of ours, 2 usage, 3 invalid config,
4 a plan that does not fit, 5 not what was locked, 6 something this machine lacks, 130 interrupted;
`doctor` answers 1 where something is missing, `recipe drift` where a server drifted. What a verb needs is
imported when it runs.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress

from deployer.command_help import help_for
from deployer.command_words import DEFAULT_VERB, Command, parse, refuse_bare_words, split_command
from deployer.ending_signals import ending_signals
from deployer.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_UNAVAILABLE, DeployError, UsageError
from deployer.full_disk import full_disk


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP came before the server listened for it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except DeployError as error:
        _print_errors(error, words)
        return error.exit_code
    except Terminated as error:
        with suppress(OSError):  # after SIGHUP there may be no terminal to say it on
            print(f"ended by {error} before the server was ready", file=sys.stderr)
        return EXIT_OK
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `deploy list models | head`
        _drop_output()
        return EXIT_OK
    except OSError as error:
        full = full_disk(error)
        if full is None:
            raise
        _print_errors(full, words)
        _drop_output()
        return full.exit_code


def _drop_output() -> None:
    """Let go of what could not be written, which the end of Python would try again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(words: list[str]) -> int:
    own, _ = split_command(words)
    if own[:1] == ["help"] or "-h" in own or "--help" in own:
        print(help_for(own), end="")
        return EXIT_OK
    if words[:1] == ["--version"]:
        print(_version())
        return EXIT_OK
    if not words:
        return _no_model()
    command = parse(words)
    if command.verb.takes not in ("words", "command"):
        refuse_bare_words(command)
    return _run(command)


def _run(command: Command) -> int:
    from engines.errors import EngineError

    try:
        with _signals_end_it() if command.name == DEFAULT_VERB else nullcontext():
            return _call(command)
    except EngineError as error:
        _print_errors(error, command.words)
        return EXIT_UNAVAILABLE


def _call(command: Command) -> int:
    """Call the function of a verb with what it takes."""
    from deployer.config.resolve import entry

    verb = command.verb
    if verb.instead and any(word.startswith(f"{verb.instead[0]}=") for word in command.words):
        return int(entry(verb.instead[1])(command.words, command.config_dirs))
    if verb.takes in ("words", "command"):
        return int(entry(verb.run)(command.words, command.config_dirs))
    from deployer.config.load import load_for_verb

    return int(entry(verb.run)(*load_for_verb(verb, command.words, config_dirs=command.config_dirs)))


@contextmanager
def _signals_end_it() -> Iterator[None]:
    """Take the signals that end a server, until it has a loop that listens for them."""
    numbers = [number for number in ending_signals() if number != signal.SIGINT]  # Python takes that one
    before = {number: signal.signal(number, _terminated) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _terminated(number: int, _: object) -> None:
    raise Terminated(signal.Signals(number).name)


def _no_model() -> int:
    """Say which models there are, and how to start the one that ships."""
    from deployer.listing import print_models

    print("deploy +model=<name> starts one of these; pocket_vl ships with the package:\n", file=sys.stderr)
    print_models(sys.stdout)
    print("\nstart the one that ships: deploy +model=pocket_vl\nhelp: deploy --help", file=sys.stderr)
    return UsageError.exit_code


def _print_errors(error: Exception, words: Sequence[str]) -> None:
    from deployer.table import paint
    from deployer.typed_origin import with_origin

    for line in (str(error) or type(error).__name__).splitlines():
        print(f"{paint('error:', 'red', out=sys.stderr)} {with_origin(line, words)}", file=sys.stderr)


def _version() -> str:
    from deployer.package_version import package_version

    return f"vlm-deployer {package_version('vlm-deployer') or '(run from a checkout, not installed)'}"


if __name__ == "__main__":
    sys.exit(main())
