"""Errors of the runtime: everything a user can cause below the front end.

    EngineError
    ├── CheckpointError      a checkpoint folder, file, tensor or config.json is not what it must be
    ├── DeviceError          the device asked for is missing, too old or too small
    ├── PackageError         a package that this deployment needs is not here or cannot be imported
    ├── KernelError          a kernel of engine=turbomind cannot be compiled, loaded or launched
    ├── RequestError         one request cannot be served; carries the API's error code
    └── EngineDeadError      the engine process is gone or does not answer

Messages read *what, where it came from: the rule; the way out*, lower case, without a full stop.
`deployer.errors` holds the upper part of the tree.
"""


class EngineError(Exception):
    """The root of every error that `engines` raises for a cause outside its own code."""


class CheckpointError(EngineError):
    """A checkpoint cannot be read as the model it is said to be."""


class DeviceError(EngineError):
    """The device that was asked for cannot run this deployment."""


class PackageError(EngineError):
    """A package that this deployment needs cannot be imported."""


class KernelError(EngineError):
    """A CUDA kernel cannot be compiled, loaded or launched."""


class RequestError(EngineError):
    """One request cannot be served.

    `code` is stable and goes to the client, as `context_length_exceeded`.
    """

    def __init__(self, message: str, *, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.code = code


class EngineDeadError(EngineError):
    """The engine process ended or stopped answering while it still owed replies."""


def error_of(kind: str, message: str) -> EngineError:
    """Return the error whose class another process named; EngineError where we have no such class."""
    classes: tuple[type[EngineError], ...] = (EngineError, *EngineError.__subclasses__())
    for known in classes:
        if known.__name__ == kind:
            return known(message)
    return EngineError(f"{kind}: {message}")
