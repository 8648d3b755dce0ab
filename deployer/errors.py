"""Errors of the front end: everything a user can cause above the engine, each with its exit code.

    DeployError
    ├── UsageError        2   the command line is not one of ours: unknown verb, a word too many
    ├── ConfigError       3   the config tree does not hold; carries every fault that was found
    ├── InfeasibleError   4   a sweep has no point that can run
    ├── NoFitError        4   a target was asked for that the plan says cannot hold the deployment
    ├── LockError         5   a recipe, its files or this machine are not what its lock says; every difference
    └── UnavailableError  6   what the deployment needs is not here: a GPU, a free port, an extra

`engines.errors` holds the lower part of the tree; the command line answers an `EngineError` with exit code 6.
Messages read *what, where it came from: the rule; the way out*, lower case, without a full stop.
"""

from collections.abc import Sequence

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_MISSING = 1  # an answer of `deploy doctor`, not an error
EXIT_DRIFT = 1  # an answer of `deploy recipe drift`, not an error
EXIT_DOES_NOT_FIT = 4  # an answer of `deploy plan`; an error of sweeps and targets
EXIT_MISMATCH = 5  # an answer of `deploy recipe verify`, and of a locked recipe that is served
EXIT_UNAVAILABLE = 6
EXIT_INTERRUPTED = 130


class DeployError(Exception):
    """The root of every error that `deployer` raises for a cause outside its own code."""

    exit_code = EXIT_UNEXPECTED


class UsageError(DeployError):
    """The command line cannot be understood."""

    exit_code = 2


class ConfigError(DeployError):
    """The config tree does not hold; one line a fault."""

    exit_code = 3

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class InfeasibleError(DeployError):
    """Everything that a sweep was to measure was ruled out before it ran."""

    exit_code = EXIT_DOES_NOT_FIT


class NoFitError(DeployError):
    """The plan says that the deployment does not fit where it should go."""

    exit_code = EXIT_DOES_NOT_FIT


class LockError(DeployError):
    """What was locked is not what is here; one line a difference."""

    exit_code = EXIT_MISMATCH

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


class UnavailableError(DeployError):
    """This machine lacks what the deployment needs."""

    exit_code = EXIT_UNAVAILABLE
