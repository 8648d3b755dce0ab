"""`deploy render target=...`: the files of a target, printed or written. Nothing is started or asked."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployer.config.resolve import entry
from deployer.config.schema import DeployConfig
from deployer.errors import EXIT_OK, LockError, UsageError
from deployer.plan.command import make_plan
from deployer.plan.hardware import Hardware
from deployer.plan.options import PlanOptions
from deployer.targets.written import Rendered, edits, write_files

JSON_SCHEMA = 1
# target.kind -> what renders it
RENDERERS: Mapping[str, str] = {
    "compose": "deployer.targets.compose:render",
    "kubernetes": "deployer.targets.kubernetes:render",
    "ray_serve": "deployer.targets.ray_serve:render",
    "systemd": "deployer.targets.systemd:render",
}


def rendered(config: DeployConfig, plan: PlanOptions, hardware: Hardware) -> list[Rendered]:
    """Return the files of a deployment's target.

    Raises UsageError where it has none, NoFitError where the plan says no, ConfigError.
    """
    kind = config.target.kind
    if kind not in RENDERERS:
        kinds = ", ".join(sorted(RENDERERS))
        raise UsageError(
            f"`deploy render`: target={kind} has no files; for files add target=<one of {kinds}>, for the "
            "prompt of a conversation render.messages=FILE"
        )
    files: list[Rendered] = entry(RENDERERS[kind])(config, make_plan(config, plan, hardware))
    return files


def print_files(files: Sequence[Rendered], *, output: str) -> int:
    """Print the files: as one stream that `kubectl apply -f -` reads, or as JSON."""
    if output == "json":
        listed = [{"path": file.path, "text": file.text} for file in files]
        print(json.dumps({"schema": JSON_SCHEMA, "files": listed}, ensure_ascii=False, indent=2))
        return EXIT_OK
    for file in files:
        marker = "" if len(files) == 1 else f"---\n# {file.path}\n"
        print(f"{marker}{file.text}", end="")
    return EXIT_OK


def write(files: Sequence[Rendered], folder: Path, *, overwrite: bool, group: str) -> int:
    """Write the files and say what changed; an edit is shown, and kept unless `overwrite`.

    `group` is the one whose keys `out` and `overwrite` were read. Raises UsageError where no folder is named,
    LockError where an edit would be lost.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{group}.out={folder}: is a file; name a folder")
    lost = edits(files, folder)
    if lost and not overwrite:
        for difference in lost.values():
            print(difference, end="")
        sys.stdout.flush()
        names = ", ".join(f"`{path}`" for path in lost)
        raise LockError(
            [
                f"{names}: edited since it was rendered, or never rendered here: nothing was written; bring "
                f"the edit into the config tree, or add {group}.overwrite=true"
            ]
        )
    for written in write_files(files, folder):
        print(f"{written.how:8} {written.path}")
    return EXIT_OK


def refuse_foreground(config: DeployConfig) -> int:
    """Raise UsageError: such a deployment does not run in this terminal."""
    kind = config.target.kind
    raise UsageError(
        f"target={kind}: does not run in the foreground; `deploy up` starts it, `deploy render` prints "
        "its files"
    )
