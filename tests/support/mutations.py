"""Picture files of every kind, and what becomes of them when bytes go wrong. Seeded.

With the extra `heic`, pictures of that kind are among them.
"""

import io
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")


def originals(dice: random.Random) -> list[bytes]:
    """Return pictures of every kind, mode and layout that a file may have."""
    found = []
    noise = np.random.default_rng(dice.randrange(2**32)).integers(0, 256, (40, 60, 4), np.uint8)
    picture = Image.fromarray(noise)
    modes = {
        "PNG": ("RGBA", "RGB", "L", "LA", "P", "1"), "JPEG": ("RGB", "L", "CMYK"), "WEBP": ("RGBA", "RGB"),
        "GIF": ("P", "L"), "BMP": ("RGB", "L", "P"), "TIFF": ("RGBA", "RGB", "L", "CMYK"),
    }  # fmt: skip
    for kind in KINDS:
        for mode in modes[kind]:
            options: list[dict[str, object]] = [{}]
            if kind == "JPEG":
                exif = Image.Exif()
                exif[0x0112] = dice.randrange(1, 9)
                options += [{"progressive": True}, {"exif": exif.tobytes()}]
            if kind in ("GIF", "WEBP", "PNG") and mode != "1":
                options.append({"save_all": True, "append_images": [picture.convert("RGB").convert(mode)]})
            if kind == "TIFF":
                options += [{"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}]
            base = (
                picture.convert("RGB").convert(mode) if mode not in ("RGBA", "LA") else picture.convert(mode)
            )
            for option in options:
                data = io.BytesIO()
                base.save(data, kind, **option)
                found.append(data.getvalue())
    return found + heic_originals(picture)


def heic_originals(picture: Image.Image) -> list[bytes]:
    """Return pictures in HEIC; none where the extra `heic` is not installed."""
    try:
        from pillow_heif import from_pillow
    except ImportError:
        return []
    found = []
    for mode in ("RGBA", "RGB", "L"):
        for quality in (30, 90):
            data = io.BytesIO()
            base = picture if mode == "RGBA" else picture.convert("RGB").convert(mode)
            from_pillow(base).save(data, quality=quality)
            found.append(data.getvalue())
    return found


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Return a file with some bytes flipped, cut, doubled, blown up or put in from elsewhere."""
    out = bytearray(data)
    for _ in range(dice.randrange(1, 6)):
        how, at = dice.randrange(6), dice.randrange(len(out) or 1)
        if how == 0 and out:
            out[at] ^= 1 << dice.randrange(8)
        elif how == 1 and out:
            out[at : at + 4] = dice.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"))
        elif how == 2:
            del out[at:]
        elif how == 3:
            out[at:at] = out[at : at + dice.randrange(64)]
        elif how == 4:
            del out[at : at + dice.randrange(64)]
        else:
            out[at:at] = dice.randbytes(dice.randrange(16))
    return bytes(out)


def outcomes(
    outcome: Callable[[bytes], str], files: Sequence[bytes], count: int, dice: random.Random
) -> tuple[Counter[str], list[int]]:
    """Return how that many damaged files ended, and the resident bytes after each tenth of them."""
    found: Counter[str] = Counter()
    memory = []
    for number in range(count):
        found[outcome(mutated(dice.choice(files), dice))] += 1
        if (number + 1) % max(1, count // 10) == 0:
            memory.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize())
    return found, memory


def print_outcomes(run: Callable[[int], tuple[Counter[str], list[int]]]) -> None:
    """Run as many files as the command says, and print what became of them."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    started = time.perf_counter()
    found, memory = run(count)
    print(f"{count} files in {time.perf_counter() - started:.0f} s: {dict(found.most_common())}")
    print("resident MiB after each tenth:", [round(size / 2**20) for size in memory])
