"""The version of an installed package, told by its metadata: nothing is imported."""

from importlib.metadata import PackageNotFoundError, version


def package_version(package: str) -> str | None:
    """Return the version of a distribution, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
