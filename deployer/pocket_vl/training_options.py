"""Options of a training run: the command line, `key=value`."""

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How the network is trained."""

    out: Path = Path("outputs/pocket_vl")
    fonts: Path = Path(".fonts")
    first_steps: int = 10000  # of the first stage: small pictures of one tile
    steps: int = 30000  # of both stages
    first_seconds: float = 130.0  # the first stage ends here even if steps are left
    seconds: float = 525.0  # the schedule ends here even if steps are left
    first_batch: int = 192  # pictures
    batch: int = 128
    text_tokens: int = 256  # of conversations behind a picture
    lr: float = 1.5e-3  # of AdamW
    matrix_lr: float = 8e-3  # of Muon, for the matrices of the layers; 0: AdamW for all
    warmup: int = 120  # steps
    weight_decay: float = 0.05
    dense_weight: float = 1.0  # at the start; a fifth of it at the end
    questions: int = 2000  # of the trial at the end
    patch: int = 12  # pixels a side
    vision_layers: int = 8
    layers: int = 6  # of the decoder
    workers: int = max(1, (os.cpu_count() or 1) - 1)
    seed: int = 1
    tokenizer: Path = Path(__file__).parents[1] / "models" / "pocket_vl" / "tokenizer.json"
    device: str = "cuda"
    compile: bool = True


def read_options(arguments: list[str]) -> Options:
    """Return the options of `key=value` arguments; exits with a message on an unknown key or a bad value.

    Files that are read must be there.
    """
    known = {field.name: field.type for field in fields(Options)}
    changes: dict[str, object] = {}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in known:
            raise SystemExit(f"unknown option `{key}`; known: {', '.join(sorted(known))}")
        kind = known[key]
        try:
            changes[key] = value == "true" if kind is bool else kind(value)  # type: ignore[operator]  # int, float, str or Path
        except ValueError as error:
            raise SystemExit(f"option `{argument}`: {error}") from error
    options = replace(Options(), **changes)  # type: ignore[arg-type]  # checked against the fields above
    if not options.fonts.is_dir():
        raise SystemExit(f"fonts={options.fonts}: is not a folder; name one with .ttf and .otf files")
    if not options.tokenizer.is_file():
        raise SystemExit(
            f"tokenizer={options.tokenizer}: there is no such file; `build_vocabulary` beside this writes one"
        )
    return options
