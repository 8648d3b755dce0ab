"""What every kind of tower, projector, preprocessing and assembly tells about itself. Torch-free.

A picture goes `pixels` (front end: RGB to uint8 arrays) -> `assembly` (engine: arrays through towers and
projector to rows of the prompt). A kind is a frozen dataclass below one of the four classes here, with a
`kind` of its own, listed in `engines/vision/kinds.py`; the module that computes it is imported by `build`.
What the front end and the planner ask is answered from a picture's width and height alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from engines.weights.parameter import Parameter

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from engines.ops import Ops
    from engines.quant.linear_tensors import Params
    from engines.spec import VisionSpec

    # uint8 tiles in the dtype and shape that the tower reads -> features; towers differ in their arguments.
    Module = Callable[..., Tensor]
    # Pictures, and how many tiles one pass of a tower may hold -> the rows [M, O] of each picture.
    Encoder = Callable[[Sequence["ImagePixels"], int], list[Tensor]]

    # uint8 tiles [I, S, S, C] of one pass -> rows [I, M, O].
    EncodePass = Callable[[Tensor], Tensor]
    # An encoder's pass, the shape [S, S, C] of its tiles, how many a large picture has -> what does the same.
    RecordPass = Callable[[EncodePass, tuple[int, ...], int], EncodePass]

Segment = int | str  # that many image rows, or text that stands between rows
Filter = Literal["bilinear", "bicubic"]  # of Pillow


@dataclass(frozen=True, kw_only=True, slots=True)
class ImagePlan:
    """What becomes of a picture, or of a video as a whole."""

    width: int  # pixels, as sent and upright
    height: int
    grid: tuple[int, int]  # columns and rows of tiles, slices or cells, whatever the pixel kind cuts
    num_tiles: int  # what the tower encodes one by one, thumbnails included; of a video its steps
    times: tuple[int, ...] = ()  # of a video: where each of its steps stands in time, from 0; (): a picture


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """Square tiles of a picture: it is resized to whole tiles, which are taken row by row."""

    width: int  # pixels; a multiple of `side`
    height: int  # likewise
    side: int
    filter: Filter


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImagePixels:
    """One picture as the engine gets it."""

    # uint8 on the host or the device; upstream's results to compare with have normalised floats. Not cut yet:
    # the picture itself, [height, width, 4], the fourth byte unused.
    arrays: "tuple[NDArray[Any] | Tensor, ...]"
    plan: ImagePlan
    is_cut: bool = True
    shared: tuple[int, ...] = ()  # `AssemblySpec.shared` of its prompt


class PixelSpec(ABC):
    """From an RGB picture to uint8 arrays; scaling to numbers and normalising happen on the device."""

    __slots__ = ()
    kind: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    options: ClassVar[tuple[str, ...]] = ()  # fields that `vision.<field>` may override

    @abstractmethod
    def plan(self, width: int, height: int, *, num_images: int = 1) -> ImagePlan:
        """Return what a picture becomes in a prompt with so many pictures. Raises RequestError."""

    @abstractmethod
    def largest(self) -> ImagePlan:
        """Return the plan of a picture that costs as much as any."""

    @abstractmethod
    def shapes(self, plan: ImagePlan) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of the arrays that a plan gives."""

    @abstractmethod
    def arrays(self, rgb: "Image.Image", plan: ImagePlan) -> "tuple[NDArray[np.uint8], ...]":
        """Return the picture's arrays."""

    def cuts(self, plan: ImagePlan) -> tuple[Cut, ...]:
        """Return how a device makes the only array, the tiles of each cut behind those of the one before.

        Empty: `arrays` alone knows.
        """
        return ()

    def low_detail(self) -> Self:
        """Return the preprocessing of `detail: "low"`: itself where nothing cheaper exists."""
        return self

    def medium_detail(self) -> Self:
        """Return the preprocessing of `detail: "medium"`, half of what it allows; likewise."""
        return self

    def changed(self, options: Mapping[str, Any]) -> Self:
        """Return the preprocessing with some of `options` replaced."""
        return replace(self, **options)  # type: ignore[type-var]  # every kind is a dataclass

    def cheaper(self) -> "Iterator[dict[str, Any]]":
        """Yield settings of `vision.*` that make pictures cheaper, for the planner to try."""
        yield from ()

    def faults(self) -> list[str]:
        """Return what is wrong with the options together, each as a rule that names them."""
        return []


class TowerSpec(ABC):
    """A vision tower. Every rank holds all of it."""

    __slots__ = ()
    hidden: int  # width of its features

    @abstractmethod
    def parameters(self, name: str) -> Iterator[Parameter]:
        """Yield its parameters below a name, in the order of a forward pass."""

    @abstractmethod
    def build(self, params: "Params", name: str, *, ops: "Ops") -> "Module":
        """Return the tower over its parameters."""

    @abstractmethod
    def tile_tokens(self, plan: ImagePlan) -> int:
        """Return the tokens of one tile inside the tower."""

    @abstractmethod
    def tile_flops(self, plan: ImagePlan) -> tuple[int, int]:
        """Return operations of one tile: matrix products, attention; a multiply-add counts as two."""

    @abstractmethod
    def tile_numbers(self, plan: ImagePlan) -> int:
        """Return the numbers that live at once in the widest layer, for one tile."""


class ProjectorSpec(ABC):
    """From tower features to rows of the decoder's embedding space."""

    __slots__ = ()

    @abstractmethod
    def parameters(self, width: int, out: int) -> Iterator[Parameter]:
        """Yield its parameters, for features of this width and rows of `out` numbers."""

    @abstractmethod
    def build(self, params: "Params", *, ops: "Ops") -> "Module":
        """Return the projector over its parameters."""

    @abstractmethod
    def row_flops(self, width: int, out: int) -> int:
        """Return operations that one row takes."""


class AssemblySpec(ABC):
    """How a picture's arrays go through towers and projector, and in which order rows and separators come."""

    __slots__ = ()

    @abstractmethod
    def segments(self, plan: ImagePlan) -> tuple[Segment, ...]:
        """Return what a picture puts into the prompt: stretches of rows, and texts between them."""

    @abstractmethod
    def build(self, spec: "VisionSpec", params: "Params", *, ops: "Ops") -> "Encoder":
        """Return what encodes pictures."""

    def parameters(self, width: int, out: int) -> Iterator[Parameter]:
        """Yield what it adds to the rows, as separators, for the first tower's width."""
        yield from ()

    def tiles_a_pass(self, max_tiles: int) -> int:
        """Return how many tiles share a pass where `vision.max_batch_size` allows so many."""
        return max_tiles

    def shared(self, plans: Sequence[ImagePlan]) -> tuple[int, ...]:
        """Return numbers on which the rows of each picture of a prompt depend, beside the picture itself."""
        return ()


def tower_name(index: int) -> str:
    """Return the name below which the parameters of a model's tower stand: vision, vision2, ..."""
    return "vision" if index == 0 else f"vision{index + 1}"
