"""`deploy import-lmdeploy -- lmdeploy serve api_server ...`: the same deployment in our words."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from deployer.config.tree import config_tree
from deployer.errors import EXIT_OK, UsageError
from deployer.lmdeploy.translate import Translation, translate
from deployer.output import take_output
from deployer.table import print_table

SCHEMA = 1


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Print the command on standard output, and what became of each flag on standard error."""
    at = list(words).index("--") if "--" in words else len(words)
    output, before = take_output(words[:at])
    if before or at == len(words):
        raise UsageError(
            "`deploy import-lmdeploy` reads one command behind `--`: "
            "deploy import-lmdeploy -- lmdeploy serve api_server OpenGVLab/InternVL2-8B --tp 2"
        )
    translation = translate(words[at + 1 :], config_tree(None, config_dirs))
    if output == "json":
        print(json.dumps({"schema": SCHEMA, "command": translation.command, **asdict(translation)}, indent=2))
    else:
        _print(translation)
    return EXIT_OK


def _print(translation: Translation) -> None:
    print(translation.command)
    rows = [[line.flag, " ".join(line.words) or "-", line.note] for line in translation.lines]
    print(file=sys.stderr)
    print_table(["LMDeploy", "here", ""], rows, out=sys.stderr)
    for remark in translation.remarks:
        print(f"note: {remark}", file=sys.stderr)
