"""Whether a package of an extra is there, without importing it."""

from importlib.util import find_spec


def is_installed(module: str) -> bool:
    """Tell whether a module, by its dotted name, can be imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
