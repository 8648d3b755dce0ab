"""Stand-ins for the prompt side: a tokenizer of bytes and a builder that writes conversations plainly."""

import base64
from collections.abc import Sequence

import numpy as np

from deployer.prompt.assemble import Prompt
from deployer.prompt.fineness import Fineness
from deployer.prompt.image_errors import ImageError
from deployer.prompt.image_tokens import ImageTokens
from deployer.prompt.messages import ImagePart, ImageSize, Message, TextPart, ToolSpec
from deployer.prompt.picture_limits import PictureLimits
from deployer.prompt.planned import PlannedPrompt
from deployer.prompt.prepared_image import CutPicture, PictureTimes, PreparedImage
from deployer.prompt.tool_format import ToolFormat, check_tools
from engines.errors import RequestError
from engines.vision.parts import ImagePlan

IMAGE_ID, IMAGE_TOKENS = 257, 4
UNREADABLE = base64.b64encode(b"unreadable").decode()  # the one picture whose price is refused
TRUNCATED = b"truncated"  # the bytes of the one whose header reads and whose pixels do not


class ByteTokenizer:
    """Token i is byte i; 256 ends a text, 257 is an image slot."""

    vocab_size = 258
    bos_id: int | None = None
    eos_id: int | None = 256
    special_ids = frozenset({256, 257})
    drops_first_space = False

    def encode(self, text: str, *, special: bool) -> list[int]:
        return list(text.encode())

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < 256 else b"<eos>" if token_id == 256 else b"<img>"

    def token_to_id(self, token: str) -> int | None:
        return {"<eos>": 256, "<img>": 257}.get(token)


class FakePrompts:
    """A `PromptBuilder` whose pictures are four slots each and never decoded."""

    def __init__(self) -> None:
        self.tokenizer = ByteTokenizer()
        self.session_len = 4096
        self.eos_token_ids = (256,)
        self.stop_token_ids: tuple[int, ...] = ()
        self.stop_words: tuple[str, ...] = ()
        self.takes_videos = False
        self.picture_limits = PictureLimits(max_tiles=3, max_tokens=12, tile_tokens=4)
        self.seen: list[Sequence[Message]] = []
        self.seen_tools: list[Sequence[ToolSpec]] = []
        self.tool_format: ToolFormat | None = None

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        add_generation_prompt: bool = True,
    ) -> Prompt:
        check_tools(messages, tools, self.tool_format, origin="chat_template.name=fake")
        self.seen.append(messages)
        self.seen_tools.append(tools)
        ids: list[int] = []
        images = []
        for message in messages:
            ids += f"{message.role}:".encode()
            for part in message.parts:
                if not isinstance(part, ImagePart):
                    ids += part.text.encode()
                    continue
                if not str(part.source).startswith("data:"):
                    raise RequestError(f"image {len(images) + 1}: not a data URL", code="invalid_image")
                if str(part.source).endswith(base64.b64encode(TRUNCATED).decode()):
                    raise ImageError("damaged or truncated", code="image_unreadable", index=len(images))
                tiles = np.full((1, 2, 2, 3), len(images), np.uint8)
                image = PreparedImage(
                    name=f"image {len(images) + 1}",
                    start=len(ids), num_tokens=IMAGE_TOKENS, rows=((0, IMAGE_TOKENS),),
                    plan=ImagePlan(width=2, height=2, grid=(1, 1), num_tiles=1), shared=(), notes=(),
                    cut=CutPicture(
                        key_of=lambda: bytes(16), is_cut=True, arrays=(tiles,), times=PictureTimes(
                            fetch_begun_s=1.0, fetch_s=0.5, decode_begun_s=2.0, decode_s=0.25, cut_s=0.125
                        ),
                    ),
                )  # fmt: skip
                images.append(image)
                ids += [IMAGE_ID] * IMAGE_TOKENS
        return Prompt(token_ids=tuple(ids), images=tuple(images))

    def check_fineness(self, fineness: Fineness) -> None:
        if fineness.max_pixels is not None:
            raise RequestError("`max_pixels`: no such option", code="image_option_refused")

    async def marked(self, text: str, images: Sequence[ImagePart]) -> Prompt:
        return await self.chat([Message(role="user", parts=(*images, TextPart(text=text)))])

    async def plan(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        add_generation_prompt: bool = True,
    ) -> PlannedPrompt:
        prompt = await self.chat(messages, tools=tools)
        end = tuple(b"answer:") if add_generation_prompt else ()
        return PlannedPrompt(pieces=("",), token_ids=(*prompt.token_ids, *end), images=())

    async def measure(self, images: Sequence[ImagePart | ImageSize]) -> list[ImageTokens]:
        for index, image in enumerate(images):
            if isinstance(image, ImagePart) and str(image.source).endswith(UNREADABLE):
                raise ImageError("cannot be read", code="image_unreadable", index=index)
        return [_measured(image) for image in images]

    def count(self, text: str, *, special: bool) -> list[int]:
        return [*([256] if special else []), *text.encode()]

    def text(self, prompt: str | Sequence[int]) -> Prompt:
        ids = prompt.encode() if isinstance(prompt, str) else prompt
        return Prompt(token_ids=tuple(ids), images=())

    def bad_sequences(self, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(word.encode()) for word in words)

    async def aclose(self) -> None:
        pass


def _measured(image: ImagePart | ImageSize) -> ImageTokens:
    """Return three tiles of four tokens, one where little detail is asked for."""
    width, height = (image.width, image.height) if isinstance(image, ImageSize) else (56, 28)
    tiles, grid = (1, (1, 1)) if image.fineness.detail == "low" else (3, (2, 1))
    return ImageTokens(
        plan=ImagePlan(width=width, height=height, grid=grid, num_tiles=tiles),
        token_ids=(IMAGE_ID,) * 4 * tiles, rows=((0, 4 * tiles),), shapes=((tiles, 28, 28, 3),),
    )  # fmt: skip
