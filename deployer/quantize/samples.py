"""What a calibration reads: the user's pictures and text, or seeded ones that ship.

A folder holds pictures, each with its text in a .txt file of the same name, and .txt files alone. A .jsonl
file holds one object a line: `text`, and where they are `images` (paths relative to the file) and `answer`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from deployer.errors import ConfigError
from deployer.pocket_vl.conversations import conversation
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.painter import paint
from deployer.pocket_vl.sampling import sample_scene
from deployer.prompt.image_errors import ImageError
from deployer.prompt.images import decode, open_picture
from deployer.prompt.messages import ImagePart, Message
from deployer.typed_path import typed_path

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
QUESTION = "Describe the picture."  # of a picture without a text
_FIRST_SEED = 5_000_000  # neither of training nor of the held-out questions

MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One conversation to calibrate on."""

    name: str  # where it is from: a file, a line of one, or its number among those that ship
    turns: Sequence[Message]


def samples(source: str | None, *, count: int, seed: int, pictures: bool, max_pixels: int) -> list[Sample]:
    """Return up to `count` samples; `pictures=False` leaves pictures out, for text models.

    `max_pixels`: of one picture, as requests are held to. Raises ConfigError for a source without samples,
    for a text that is none, and with every picture that cannot be read.
    """
    if source is None:
        book = FontBook.system()
        return [_shipped(seed, number, book, pictures=pictures) for number in range(count)]
    path = typed_path(source)
    is_folder = path.is_dir()
    found = list(islice(_from_folder(path), count)) if is_folder else _from_lines(path, source, count)
    if not found:
        held = f"{', '.join(PICTURES)} or .txt files" if is_folder else "one JSON object a line"
        raise ConfigError([f"quantize.samples={source}: holds no sample; it must hold {held}"])
    if not pictures:
        return [replace(one, turns=[_without_pictures(turn) for turn in one.turns]) for one in found]
    _check_pictures(source, found, max_pixels)
    return found


def first_few(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _shipped(seed: int, number: int, book: FontBook, *, pictures: bool) -> Sample:
    rng = Random(f"{seed} {number}")
    scene = sample_scene(_FIRST_SEED + seed * 100_000 + number, book, "judged")
    messages: list[Message] = []
    for place, turn in enumerate(conversation(rng, scene)):
        shown = (paint(scene, book),) if pictures and place == 0 else ()
        messages += [Message.of("user", turn.question, *shown), Message.of("assistant", turn.answer)]
    return Sample(name=f"shipped sample {number}", turns=messages)


def _from_folder(folder: Path) -> Iterator[Sample]:
    # A link to nowhere is no file, and is a sample that is meant: reading it says what is wrong.
    files = sorted(path for path in folder.iterdir() if path.is_file() or not path.exists())
    images = [path for path in files if path.suffix.lower() in PICTURES]
    texts = {path.stem: path for path in files if path.suffix.lower() == ".txt"}
    for path in images:
        question = _text(texts[path.stem]).strip() if path.stem in texts else QUESTION
        yield Sample(name=str(path), turns=[Message.of("user", question, path)])
    stems = {path.stem for path in images}
    for stem, path in texts.items():
        if stem not in stems:
            yield Sample(name=str(path), turns=[Message.of("user", _text(path).strip())])


def _from_lines(file: Path, source: str, count: int) -> list[Sample]:
    found: list[Sample] = []
    faults: list[str] = []
    for number, line in enumerate(_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            found.append(_from_line(line, file, number))
        except ConfigError as error:
            faults += error.faults
        if len(found) == count:
            break
    if faults:
        more = [f"and {len(faults) - MOST_NAMED} more"] if len(faults) > MOST_NAMED else []
        raise ConfigError([f"quantize.samples={source}: {fault}" for fault in faults[:MOST_NAMED]] + more)
    return found


def _from_line(line: str, file: Path, number: int) -> Sample:
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError([f"{file}:{number} is not JSON: {error}; write one object a line"]) from error
    images = entry.get("images", []) if isinstance(entry, dict) else None
    text = entry.get("text") if isinstance(entry, dict) else None
    if (
        not isinstance(text, str)
        or not isinstance(images, list)
        or entry.keys() - {"text", "images", "answer"}
    ):
        raise ConfigError(
            [f"{file}:{number}: must have `text`, and may have `images` (a list of paths) and `answer`"]
        )
    turns = [Message.of("user", text, *(file.parent / str(name) for name in images))]
    if entry.get("answer") is not None:
        turns.append(Message.of("assistant", str(entry["answer"])))
    return Sample(name=f"{file}:{number}", turns=turns)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            [f"quantize.samples: {path} is no text in UTF-8 (byte {error.start}); save it so or take it out"]
        ) from error
    except OSError as error:
        raise ConfigError(
            [f"quantize.samples: {path} cannot be read ({error.strerror}); take it out"]
        ) from error


def _check_pictures(source: str, found: list[Sample], max_pixels: int) -> None:
    parts = [part for one in found for message in one.turns for part in message.parts]
    paths = {part.source for part in parts if isinstance(part, ImagePart) and isinstance(part.source, Path)}
    faults = [f"{path} ({fault})" for path in sorted(paths) if (fault := _fault(path, max_pixels))]
    if faults:
        how_many = "1 picture" if len(faults) == 1 else f"{len(faults)} pictures"
        told = f"{how_many} cannot be read: {first_few(faults)}; take them out"
        raise ConfigError([f"quantize.samples={source}: {told}"])


def _fault(path: Path, max_pixels: int) -> str:
    """Return what keeps a picture from being read, by the rules for those of requests; empty: nothing."""
    try:
        decode(open_picture(path.read_bytes(), index=0, max_pixels=max_pixels))
    except ImageError as error:
        return error.about
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _without_pictures(message: Message) -> Message:
    texts = tuple(part for part in message.parts if not isinstance(part, ImagePart))
    return Message(role=message.role, parts=texts)
