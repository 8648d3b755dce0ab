"""A prompt whose cost is known and whose pictures are not decoded yet."""

from dataclasses import dataclass

from deployer.prompt.image_tokens import ImageTokens
from deployer.prompt.images import Picture
from deployer.prompt.messages import ImagePart


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlannedImage:
    """One picture of a planned prompt: tokens [start, start + len(slot.token_ids)) are its own."""

    part: ImagePart
    picture: Picture
    slot: ImageTokens
    start: int


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PlannedPrompt:
    """A conversation as the model will read it."""

    pieces: tuple[str, ...]  # the text around the pictures: one piece more than pictures
    token_ids: tuple[int, ...]  # image slots hold the family's placeholder id
    images: tuple[PlannedImage, ...]

    @property
    def num_image_tokens(self) -> int:
        """Tokens of all image slots together."""
        return sum(len(image.slot.token_ids) for image in self.images)
