"""What a benchmark ran on: processor, accelerator, versions, commit."""

import os
import platform
import subprocess
from pathlib import Path

from deployer.assets import PACKAGE
from deployer.package_version import package_version

PACKAGES = (
    "torch", "cuda-bindings", "nvidia-cuda-nvrtc", "numpy", "pyzmq", "uvicorn", "fastapi", "tokenizers",
    "httpx",
)  # fmt: skip


def machine() -> dict[str, str]:
    """Return name and value of everything that figures depend on, beside the config."""
    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {found}" for name in PACKAGES if (found := package_version(name))),
        "deployer": f"{package_version('vlm-deployer') or 'not installed'}, commit {_commit()}",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in info.read_text().splitlines()
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """Return the checkout's commit, marked where files differ from it; `none` for an installed package."""
    if not (PACKAGE.parent / ".git").exists():
        return "none"
    git = ("git", "-C", str(PACKAGE.parent))
    found = subprocess.run(
        (*git, "rev-parse", "--short=10", "HEAD"), capture_output=True, text=True, check=False
    )
    changed = subprocess.run(
        (*git, "status", "--porcelain", "-uno"), capture_output=True, text=True, check=False
    )
    return (found.stdout.strip() or "unknown") + (" with changes" if changed.stdout.strip() else "")
