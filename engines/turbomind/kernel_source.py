"""The text of one kernel file with everything it includes. Not the compiler: that is `nvrtc.py`.

Kernels include only files of `kernels/`; no toolkit header is needed, so what is read here is all that a
binary depends on.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from engines.errors import KernelError

_INCLUDE = re.compile(r'^\s*#include\s+"([^"]+)"', re.MULTILINE)
_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelSource:
    """One `.cu` file and the headers it reaches, by the name they are included with."""

    name: str
    text: str
    headers: tuple[tuple[str, str], ...]  # (include name, text), sorted by name


def kernel_dir() -> Path:
    """Return the folder of the kernel files: below `deployer` in a wheel, beside the packages in a checkout.

    Raises KernelError where neither exists: the installation is broken.
    """
    for folder in (_CHECKOUT / "deployer" / "kernels", _CHECKOUT / "kernels"):
        if folder.is_dir():
            return folder
    raise KernelError(
        f"`kernels` is not installed below {_CHECKOUT}: the installation is incomplete; install again"
    )


def read_kernel(name: str, folder: Path | None = None) -> KernelSource:
    """Read `name` (such as `norm.cu`) and, through their quoted includes, all its headers."""
    folder = folder or kernel_dir()
    text = _read(folder, name, included_by=None)
    headers: dict[str, str] = {}
    pending = [(name, text)]
    while pending:
        includer, body = pending.pop()
        for header in _INCLUDE.findall(body):
            if header not in headers:
                headers[header] = _read(folder, header, included_by=includer)
                pending.append((header, headers[header]))
    return KernelSource(name=name, text=text, headers=tuple(sorted(headers.items())))


def _read(folder: Path, name: str, *, included_by: str | None) -> str:
    try:
        return (folder / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        origin = f" (included by `{included_by}`)" if included_by else ""
        raise KernelError(f"kernel file `{name}`{origin} is missing in {folder}: install again") from None
