"""Python, this package, and the extras that are there or not."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from deployer.recipes.findings import Finding

# extra -> its packages, and what it is for
EXTRAS = {
    "engine": (("torch",), "every engine"),
    "cuda": (("cuda-bindings", "nvidia-cuda-nvrtc"), "engine=turbomind"),
    "sweep": (("optuna", "matplotlib"), "searches and pictures of `deploy -m bench`"),
    "modelscope": (("modelscope",), "model.hub=modelscope"),
}


def package_findings() -> Iterator[Finding]:
    """Yield what is installed; an extra that is missing is an error only where an engine asks for it."""
    yield Finding(level="ok", part="python", text=f"{platform.python_version()} on {platform.platform()}")
    yield Finding(level="ok", part="vlm-deployer", text=installed("vlm-deployer") or "run from a checkout")
    for extra, (packages, what) in EXTRAS.items():
        found = {name: installed(name) for name in packages}
        text = ", ".join(f"{name} {number or 'not installed'}" for name, number in found.items())
        if all(found.values()):
            yield Finding(level="ok", part=f"extra {extra}", text=text)
        else:
            way_out = f"for {what}: pip install 'vlm-deployer[{extra}]'"
            yield Finding(level="warning", part=f"extra {extra}", text=f"{text}; {way_out}")


def installed(package: str) -> str | None:
    """Return the version of a distribution, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
