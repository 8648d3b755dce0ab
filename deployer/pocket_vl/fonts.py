"""The fonts that pictures are printed with: Pillow's built-in one and the files of a folder or of the
system.

None are shipped. `FontBook.open(folder)` takes every .ttf/.otf of a folder; `FontBook.system()` takes
the known names that this machine has. Both are sorted by name, so that the same files give the same
pictures.
"""

from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path("/Library/Fonts"))

# Upright text faces that systems commonly have; symbols, scripts and other alphabets are not looked at.
_KNOWN = frozenset(
    f"{stem}.ttf"
    for stem in """
    DejaVuSans DejaVuSans-Bold DejaVuSansMono DejaVuSansMono-Bold DejaVuSerif DejaVuSerif-Bold
    LiberationSans-Regular LiberationSans-Bold LiberationSerif-Regular LiberationSerif-Bold
    LiberationMono-Regular OpenSans-Regular Roboto-Regular Roboto-Bold Lato-Regular FreeSans FreeSerif
    Carlito-Regular Arial Verdana
    """.split()  # noqa: SIM905 - a list of names reads better as names
)

_BUILT_IN = "Pillow built-in"
_MEASURED_SIZE = 64


class FontBook:
    """An ordered list of fonts; index 0 is Pillow's built-in one."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = sorted(paths, key=lambda path: path.name)
        self._font = lru_cache(maxsize=2048)(self._load)

    @classmethod
    def open(cls, folder: Path) -> "FontBook":
        """Take the font files directly in `folder`."""
        return cls([path for path in folder.iterdir() if path.suffix in (".ttf", ".otf")])

    @classmethod
    def system(cls) -> "FontBook":
        """Take the known fonts that this machine has; of several files of one name the first path."""
        found: dict[str, Path] = {}
        for folder in _FOLDERS:
            for path in sorted(folder.rglob("*.ttf")):
                if path.name in _KNOWN:
                    found.setdefault(path.name, path)
        return cls(list(found.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """Names in index order."""
        return (_BUILT_IN, *(path.stem for path in self._paths))

    def font(self, index: int, size: int) -> ImageFont.FreeTypeFont:
        """Return the font at `size` pixels an em."""
        return self._font(index, size)

    def ink(self, index: int, string: str) -> tuple[float, float]:
        """Return width and height of the ink of a string, in ems."""
        x0, y0, x1, y1 = ink_box(self.font(index, _MEASURED_SIZE), string)
        return (x1 - x0) / _MEASURED_SIZE, (y1 - y0) / _MEASURED_SIZE

    def _load(self, index: int, size: int) -> ImageFont.FreeTypeFont:
        if index > 0:
            return ImageFont.truetype(str(self._paths[index - 1]), size, layout_engine=ImageFont.Layout.BASIC)
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont), "Pillow is built with FreeType"
        return font


def ink_box(font: ImageFont.FreeTypeFont, string: str) -> tuple[float, float, float, float]:
    """Return the ink's extent of centred lines drawn at (0, 0)."""
    lines = string.split("\n")
    if len(lines) == 1:
        return font.getbbox(string)
    boxes = [font.getbbox(line) for line in lines]
    width = max(box[2] - box[0] for box in boxes)
    step = line_step(font)
    return (0.0, boxes[0][1], width, step * (len(lines) - 1) + boxes[-1][3])


def line_step(font: ImageFont.FreeTypeFont) -> int:
    """Return the distance of two lines, pixels."""
    return round(font.size * 1.25)
