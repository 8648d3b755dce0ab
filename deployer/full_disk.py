"""What a command says where nothing more can be written."""

import errno

from deployer.errors import UnavailableError


def full_disk(error: OSError) -> UnavailableError | None:
    """Return the error to show in place of `error`; None where it is another than a lack of space."""
    if error.errno != errno.ENOSPC:
        return None
    where = error.filename or "standard output or a file of this command"
    return UnavailableError(f"{where} cannot be written: no space left; make some, or write elsewhere")
