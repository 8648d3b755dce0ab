"""How finely one picture of a request is looked at, held to what the deployment allows.

A request may make its pictures cheaper than the deployment's largest, never dearer: memory is reserved for
that one. Imports nothing heavy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from engines.vision.parts import ImagePlan, PixelSpec
from engines.vision.pixels.native_spec import NativeSpec

Detail = Literal["auto", "high", "medium", "low"]
# What requests call the bounds (LMDeploy's and InternVL's words, Qwen2-VL's), and what `vision.*` calls them.
BOUNDS: Mapping[str, str] = {
    "max_dynamic_patch": "max_tiles",
    "max_pixels": "max_pixels",
    "min_dynamic_patch": "min_tiles",
    "min_pixels": "min_pixels",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fineness:
    """What a request says about one picture; None: as `vision` has it."""

    detail: Detail = "auto"  # low: the least, medium: half, high and auto: as `vision` says
    max_tiles: int | None = None
    min_tiles: int | None = None
    max_pixels: int | None = None  # after resizing
    min_pixels: int | None = None

    @classmethod
    def of(cls, detail: Detail | None, bounds: Mapping[str, int | None]) -> Self:
        """Return what a request says in its own words (`BOUNDS`); others among `bounds` are left out."""
        return cls(detail=detail or "auto", **{ours: bounds.get(word) for word, ours in BOUNDS.items()})

    def bounds(self) -> dict[str, int]:
        """Return the bounds that are given, by the words of requests."""
        given = {word: getattr(self, ours) for word, ours in BOUNDS.items()}
        return {word: value for word, value in given.items() if value is not None}


AS_DEPLOYED = Fineness()


def looked_at(own: PixelSpec, fineness: Fineness) -> PixelSpec:
    """Return the preprocessing of a picture for which `faults` has none.

    A `max` below the deployment's `min` lowers that one too: it costs nothing.
    """
    if fineness.detail in ("low", "medium"):
        return own.low_detail() if fineness.detail == "low" else own.medium_detail()
    given: dict[str, Any] = {BOUNDS[word]: value for word, value in fineness.bounds().items()}
    if not given:
        return own
    for unit in ("tiles", "pixels"):
        most, least = given.get(f"max_{unit}"), f"min_{unit}"
        if most is not None and least in own.options:
            given.setdefault(least, min(most, getattr(own, least)))
    return own.changed(given)


def faults(own: PixelSpec, fineness: Fineness) -> list[str]:
    """Return what is wrong with a request's wishes, for a deployment with this preprocessing."""
    bounds = fineness.bounds()
    if not bounds:
        return []
    foreign = [word for word in bounds if BOUNDS[word] not in own.options]
    if foreign:
        served = [f"`{word}`" for word, ours in BOUNDS.items() if ours in own.options]
        known = ", ".join(["`detail`", *served]) if served else "`detail` alone"
        return [f"`{word}`: this model's pictures have no such option, but {known}" for word in foreign]
    if fineness.detail in ("low", "medium"):
        words = " and ".join(f"`{word}`" for word in bounds)
        return [f"`detail: {fineness.detail}` beside {words}: say how finely it is cut once; leave one out"]
    return _beyond(own, bounds) or _together(own, fineness)


def grown_too_far(own: PixelSpec, plan: ImagePlan, fineness: Fineness) -> str | None:
    """Return what is wrong with a picture that `min_pixels` made larger than any may be; None: nothing.

    Its sides grow to whole cells, which may be beyond an allowed number of pixels.
    """
    if fineness.min_pixels is None or not isinstance(own, NativeSpec):
        return None
    width, height = (count * own.cell for count in plan.grid)
    if width * height <= own.max_pixels:
        return None
    return (
        f"`min_pixels`={fineness.min_pixels:,}: makes {width}x{height} pixels of {plan.width}x{plan.height}, "
        f"more than the {own.max_pixels:,} of vision.max_pixels; lower it"
    )


def _beyond(own: PixelSpec, bounds: Mapping[str, int]) -> list[str]:
    """Return the bounds that are above what the deployment reserved."""
    found = []
    for word, value in bounds.items():
        limit = BOUNDS[word].replace("min_", "max_")
        most = getattr(own, limit)
        if value > most:
            found.append(
                f"`{word}`={value:,}: must be at most {most:,}, what this deployment reserves for a picture; "
                f"lower it, or serve with a higher vision.{limit}"
            )
    return found


def _together(own: PixelSpec, fineness: Fineness) -> list[str]:
    found = looked_at(own, fineness).faults()  # these name `vision.*`, which is not what the client wrote
    for word, ours in BOUNDS.items():
        found = [fault.replace(f"vision.{ours}", f"`{word}`") for fault in found]
    return found
