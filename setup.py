"""Which packages an installation holds; all else stands in pyproject.toml.

Code packages are found, so that a new folder needs no entry. The folders that hold no code are named here and
mapped below `deployer`: a `find` rule in pyproject.toml can't do both.
"""

from setuptools import find_packages, setup

DATA = {
    "deployer.chat_templates": "chat_templates",
    "deployer.conf": "conf",
    "deployer.kernels": "kernels",
    "deployer.recipe_files": "recipes",  # `deployer.recipes` is code
}
CODE = find_packages(include=["deployer", "deployer.*", "engines", "engines.*"])

setup(packages=[*CODE, *DATA], package_dir=DATA)
