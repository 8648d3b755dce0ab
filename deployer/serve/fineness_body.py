"""How finely a picture is cut, as bodies say it: beside a picture, or once for all of a request."""

from typing import Annotated

from pydantic import Field

from deployer.generation.generation_config import INT64
from deployer.prompt.fineness import Detail, Fineness
from deployer.serve.strict_body import Body

_Count = Annotated[int, Field(ge=1, lt=INT64)]


class Bounds(Body):
    """Bounds of a picture; what the deployment has no room for is refused where the picture is planned."""

    max_dynamic_patch: _Count | None = None  # tiles, the thumbnail not counted
    min_dynamic_patch: _Count | None = None
    max_pixels: _Count | None = None  # after resizing
    min_pixels: _Count | None = None


class FinenessBody(Bounds):
    """What stands beside a picture."""

    detail: Detail | None = None

    def fineness(self, shared: Bounds | None = None) -> Fineness:
        """Return what is asked; `shared` are the request's bounds, for pictures that say nothing."""
        own = Fineness.of(self.detail, self.model_dump())
        if shared is None or own.bounds() or self.detail in ("low", "medium"):
            return own
        return Fineness.of(self.detail, shared.model_dump())
