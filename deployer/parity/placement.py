"""Where the pictures of a golden prompt stand: from the conventions of the reference implementations.

A prompt may hold one token a row, one placeholder a picture, or nothing at all but what meta.json says. What
comes out has one token a row; which token that is does not matter, rows are put in its place.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

from deployer.errors import ConfigError
from deployer.parity.golden_folder import GoldenFolder
from deployer.parity.golden_videos import clip_of
from engines.spec import VisionSpec

PLACEHOLDER = -200  # LLaVA's, one a picture
ROW = 0  # stands at rows where upstream's id is no token
FRAME = 3  # begin, picture, end: what GLM-4V replaces by the rows of a picture

Placed = tuple[list[int], list[int]]  # token ids, and the token at which each picture starts


def place(golden: GoldenFolder, case: str, vision: VisionSpec, num_rows: Sequence[int]) -> Placed:
    """Return the prompt with a token a row, and where each picture starts.

    Raises ConfigError where nothing tells, or what tells is not of these pictures.
    """
    ids = golden.token_ids(case)
    if PLACEHOLDER in ids:
        return _expanded(ids, [place for place, token in enumerate(ids) if token == PLACEHOLDER], num_rows)
    frame = golden.prompt(case).get("boi_index")
    if isinstance(frame, int):
        return _expanded(ids, [frame], num_rows, replaced=FRAME)
    starts = _starts(golden, case, vision, ids, num_rows)
    if len(starts) != len(num_rows) or any(b < a for a, b in pairwise(starts)):
        raise ConfigError(
            [
                f"model.path={golden.folder}: case `{case}` has {len(num_rows)} pictures and places for "
                f"{len(starts)} in its prompt"
            ]
        )
    return [ROW if token < 0 else token for token in ids], starts


def _expanded(
    ids: Sequence[int], places: Sequence[int], num_rows: Sequence[int], *, replaced: int = 1
) -> Placed:
    expanded: list[int] = []
    starts: list[int] = []
    done = 0
    for place, count in zip(places, num_rows, strict=True):
        expanded += ids[done:place]
        starts.append(len(expanded))
        expanded += [ROW] * count
        done = place + replaced
    return [*expanded, *ids[done:]], starts


def _starts(
    golden: GoldenFolder, case: str, vision: VisionSpec, ids: Sequence[int], num_rows: Sequence[int]
) -> list[int]:
    """Return where the pictures start in a prompt that has a token a row already."""
    starts = golden.find("starts", case)
    if starts is not None:
        return [int(start) for start in starts]
    bounds = golden.find("image_bound", case)
    if bounds is not None:
        return [int(start) for start in bounds[:, 0]]
    said = _said(golden.prompt(case))
    if said is not None:
        return said
    mask = golden.find("im_mask", case)
    if mask is not None:
        return _stretches((i for i, is_row in enumerate(mask.flatten().tolist()) if is_row), num_rows)
    if min(ids) < 0:  # -k at every row of picture k
        return [ids.index(-number) for number in range(1, len(num_rows) + 1) if -number in ids]
    clip = clip_of(golden, case, vision)
    row_id = image_id(golden, vision) if clip is None else clip.token_id
    return _stretches((i for i, token in enumerate(ids) if token == row_id), num_rows)


def _said(prompt: Mapping[str, Any]) -> list[int] | None:
    """Return starts out of [start, end) ranges in meta.json: a list of them, or one alone."""
    found = prompt.get("image_context_positions", prompt.get("image_positions"))
    if not found:
        return None
    return [found[0]] if isinstance(found[0], int) else [start for start, _ in found]


def _stretches(places: Iterable[int], num_rows: Sequence[int]) -> list[int]:
    """Return where stretches of these lengths begin among the places of rows; they may touch."""
    rows = list(places)
    if len(rows) != sum(num_rows):
        return []
    return [rows[done] for done in list(accumulate(num_rows, initial=0))[:-1]]


def image_id(golden: GoldenFolder, vision: VisionSpec) -> int | None:
    """Return the token that stands at image rows, where one does."""
    for section in (golden.meta, golden.config):
        for key in ("image_token_id", "image_token_index"):
            if isinstance(section.get(key), int):
                return int(section[key])
    named = golden.meta.get("tokens", {}).get("img_context")
    return int(named) if named is not None else vision.image_token_id
