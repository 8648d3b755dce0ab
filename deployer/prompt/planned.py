"""A prompt whose cost is known and whose pictures are not decoded yet."""

from dataclasses import dataclass

from deployer.prompt.context_length import ImageCost
from deployer.prompt.image_tokens import ImageTokens
from deployer.prompt.images import Picture
from deployer.prompt.messages import ImagePart
from deployer.prompt.seen_video import SeenVideo, VideoShown


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlannedImage:
    """One picture of a planned prompt: tokens [start, start + len(slot.token_ids)) are its own."""

    part: ImagePart | VideoShown
    picture: Picture | SeenVideo  # of a frame, or all: their video
    slot: ImageTokens
    start: int

    @property
    def name(self) -> str:
        """What messages call it: "image 1", and all frames of a video "video 1"."""
        kind = "video" if isinstance(self.picture, SeenVideo) else "image"
        return f"{kind} {self.picture.index + 1}"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlannedPrompt:
    """A conversation as the model will read it."""

    pieces: tuple[str, ...]  # the text around the pictures: one piece more than pictures
    token_ids: tuple[int, ...]  # image slots hold the family's placeholder id
    images: tuple[PlannedImage, ...]

    def costs(self) -> list[ImageCost]:
        """Return what each picture and each video takes of the context."""
        slots: dict[str, list[ImageTokens]] = {}
        for image in self.images:
            slots.setdefault(image.name, []).append(image.slot)
        return [
            ImageCost(
                name=name,
                width=own[0].plan.width,
                height=own[0].plan.height,
                num_tiles=sum(slot.plan.num_tiles for slot in own),
                num_tokens=sum(len(slot.token_ids) for slot in own),
            )
            for name, own in slots.items()
        ]

    @property
    def num_image_tokens(self) -> int:
        """Tokens of all image slots together."""
        return sum(len(image.slot.token_ids) for image in self.images)
