"""Where the folders that hold no Python lie: below the package in a wheel, beside it in a checkout."""

from pathlib import Path
from typing import Literal

Resource = Literal["conf", "chat_templates", "kernels", "recipes", "models"]

PACKAGE = Path(__file__).resolve().parent
PACKAGED = {"recipes": "recipe_files"}  # folders with another name in a wheel: `deployer.recipes` is code


def resource_dir(name: Resource) -> Path:
    """Return the folder `name`: the one below the package in a wheel, else the package folder's sibling.

    Raises FileNotFoundError where neither exists: the installation is broken.
    """
    for folder in (PACKAGE / PACKAGED.get(name, name), PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"`{name}` is neither in {PACKAGE} nor beside it: the installation is incomplete; install again"
    )
