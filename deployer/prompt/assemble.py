"""A request's messages to what the engine takes: token ids, image slots, tiles, cache keys.

Cheap refusals come first: the number of pictures, their bytes, their headers, the length of the prompt; only
then are pixels decoded. Decoding, resizing and tokenizing of long texts run on threads, downloads on the
event loop.
"""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deployer.config.schema import DeployConfig
from deployer.counted import counted
from deployer.prompt import bad_words
from deployer.prompt.chat import Rendered
from deployer.prompt.context_length import check_length, check_text
from deployer.prompt.control_tokens import read_json
from deployer.prompt.fineness import Fineness
from deployer.prompt.grammar_vocabulary import grammar_vocabulary
from deployer.prompt.image_tiles import image_tiles
from deployer.prompt.image_tokens import ImageTokens
from deployer.prompt.images import Picture
from deployer.prompt.messages import ImagePart, ImageSize, Message, ToolSpec
from deployer.prompt.open_pictures import PictureReader
from deployer.prompt.open_template import open_template, slot_id
from deployer.prompt.open_videos import VideoReader
from deployer.prompt.picture_slots import picture_slots
from deployer.prompt.pixel_pool import pixel_pool
from deployer.prompt.planned import PlannedImage, PlannedPrompt
from deployer.prompt.prepare import prepare_images
from deployer.prompt.prepared_image import PreparedImage
from deployer.prompt.prompt_ids import check_ids, prompt_ids
from deployer.prompt.seen_video import SeenVideo, VideoShown
from deployer.prompt.stop_rules import stop_rules
from deployer.prompt.template_choice import known_templates
from deployer.prompt.template_fields import with_fields_file
from deployer.prompt.tokenizer import Tokenizer, load_tokenizer
from deployer.prompt.tool_format import check_tools
from engines.errors import RequestError
from engines.messages import Vocabulary
from engines.spec import ModelSpec

MARKER = "<IMAGE_TOKEN>"  # of a picture in a text that no template writes
SHORT_TEXT = 1024  # characters: 0.1 to 0.2 ms of tokenizing


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prompt:
    """One sequence before it runs."""

    token_ids: tuple[int, ...]  # image slots hold the family's placeholder id
    images: tuple[PreparedImage, ...]

    @property
    def num_image_tokens(self) -> int:
        """Tokens of all image slots together."""
        return sum(image.num_tokens for image in self.images)


class PromptBuilder:
    """Builds the prompts of one deployment; any number of requests at once, on any event loop."""

    def __init__(
        self,
        cfg: DeployConfig,
        spec: ModelSpec,
        folder: Path,
        *,
        session_len: int | None = None,
        uncut_pixels: int = 0,
    ) -> None:
        """`session_len`: what the engine got (`Ready.session_len`); None: the config's, else the model's.

        `uncut_pixels`: as in `ImageTiles`. Raises ConfigError (chat template), CheckpointError (tokenizer).
        """
        checkpoint = read_json(folder / "config.json")
        self.tokenizer: Tokenizer = load_tokenizer(folder)
        self.session_len = session_len or cfg.engine.session_len or spec.decoder.max_positions
        self._vocab = spec.decoder.vocab
        self._video_timeout_s = cfg.vision.video_timeout_s
        chat = with_fields_file(cfg.chat_template, known_templates=known_templates())
        self._template, self._template_origin = open_template(chat, spec, folder, self.tokenizer)
        self.tool_format = self._template.tool_format
        system = "" if chat.capability == "completion" else chat.meta_instruction
        self._system: str | None = checkpoint.get("system_message") if system is None else system
        self._image_id = slot_id(spec.vision, self._template, self.tokenizer, origin=self._template_origin)
        self._tiles = image_tiles(spec.vision, cfg.vision, uncut_pixels=uncut_pixels)
        self.picture_limits = None if self._tiles is None else self._tiles.limits  # None: text only
        rules = stop_rules(
            folder, self.tokenizer, template_words=self._template.stop_words, config_words=chat.stop_words
        )
        # For `messages.Sampling` and `TextStream(stop=...)`:
        self.eos_token_ids = rules.eos_token_ids
        self.stop_token_ids = rules.stop_token_ids
        self.stop_words = rules.words
        self.pixel_pool = pixel_pool(spec.vision, cfg.vision, uncut_pixels=uncut_pixels)  # None: threads
        self._threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="prompt")
        self._pictures = PictureReader(
            cfg.vision, takes_pictures=self._tiles is not None, threads=self._threads
        )
        video = None if spec.vision is None else spec.vision.video
        self.takes_videos = video is not None
        self._clip = None if video is None else video.clip
        self._videos = VideoReader(cfg.vision, video, pool=self.pixel_pool, threads=self._threads)

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        add_generation_prompt: bool = True,
    ) -> Prompt:
        """Return the prompt of a conversation. Raises RequestError."""
        planned = await self.plan(messages, tools=tools, add_generation_prompt=add_generation_prompt)
        return await self.prepare(planned)

    async def plan(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[ToolSpec] = (),
        add_generation_prompt: bool = True,
    ) -> PlannedPrompt:
        """Return all but the pixels: what can be refused without decoding is refused. Raises RequestError."""
        self._pictures.check(messages)
        check_tools(messages, tools, self.tool_format, origin=self._template_origin)
        seen = await self._videos.seen(messages)
        rendered = self._template.render(
            seen, system=self._system, tools=tools, add_generation_prompt=add_generation_prompt
        )
        return await self._planned(rendered)

    async def marked(self, text: str, images: Sequence[ImagePart]) -> Prompt:
        """Return the prompt of a text through no template, a picture at each of its `<IMAGE_TOKEN>`.

        Raises RequestError.
        """
        self._pictures.check([Message(role="user", parts=tuple(images))])
        pieces = tuple(text.split(MARKER))
        if len(pieces) != len(images) + 1:
            raise RequestError(
                f"{counted(len(images), 'picture')}, {len(pieces) - 1} `{MARKER}` in the text: must be as "
                "many; mark where each stands, among the words that the model's template puts around it",
                code="image_placement",
            )
        return await self.prepare(await self._planned(Rendered(pieces=pieces, images=tuple(images))))

    async def _planned(self, rendered: Rendered) -> PlannedPrompt:
        pictures = await self._pictures.open(rendered.images)
        slots = self._slots(pictures, rendered.images)
        ids, starts = await self._encoded(rendered, slots)
        images = tuple(
            PlannedImage(part=part, picture=picture, slot=slot, start=start)
            for picture, part, slot, start in zip(pictures, rendered.images, slots, starts, strict=True)
        )
        planned = PlannedPrompt(pieces=rendered.pieces, token_ids=tuple(ids), images=images)
        check_length(len(ids), planned.costs(), session_len=self.session_len)
        return planned

    async def measure(self, images: Sequence[ImagePart | ImageSize]) -> list[ImageTokens]:
        """Return what the pictures of one prompt become; no pixel is decoded. Raises RequestError."""
        return self._slots(await self._pictures.sized(images), images)

    def check_fineness(self, fineness: Fineness) -> None:
        """Raise RequestError for what no picture could be asked for, whether there is one or not."""
        if self._tiles is None:
            wrong = ["this model reads text only"] if fineness.bounds() else []
        else:
            wrong = self._tiles.faults(fineness)
        if wrong:
            raise RequestError("; ".join(wrong), code="image_option_refused")

    async def prepare(self, planned: PlannedPrompt) -> Prompt:
        """Decode and cut the pictures of a planned prompt. Raises RequestError."""
        if self._tiles is None:
            return Prompt(token_ids=planned.token_ids, images=())
        images = await prepare_images(
            planned.images,
            self._tiles,
            pool=self.pixel_pool,
            threads=self._threads,
            video_timeout_s=self._video_timeout_s,
        )
        return Prompt(token_ids=planned.token_ids, images=tuple(images))

    async def fetch(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages with pictures and videos read: bytes for URLs and paths. Raises RequestError.

        For a conversation that is sent again with each turn.
        """
        return await self._videos.fetch(await self._pictures.fetch(messages))

    def count(self, text: str, *, special: bool) -> list[int]:
        """Return the token ids of a text, which may be none; `special` adds bos. Raises RequestError."""
        check_text(text, self.tokenizer, session_len=self.session_len)
        return self.tokenizer.encode(text, special=special)

    def text(self, prompt: str | Sequence[int]) -> Prompt:
        """Return the prompt of a plain text (bos added) or of ready token ids. Raises RequestError."""
        ids = self.count(prompt, special=True) if isinstance(prompt, str) else list(prompt)
        # A padded table has rows that stand for no token.
        check_ids(ids, end=min(self._vocab, self.tokenizer.vocab_size))
        check_length(len(ids), (), session_len=self.session_len)
        return Prompt(token_ids=tuple(ids), images=())

    def bad_sequences(self, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
        """Return the token sequences that write one of `words`, for `Sampling.bad_sequences`."""
        return bad_words.bad_sequences(self.tokenizer, words)

    def grammar_vocabulary(self) -> Vocabulary | None:
        """Return the tokens for the engine's grammars; None where nothing ends a text."""
        return grammar_vocabulary(self.tokenizer, (*self.eos_token_ids, *self.stop_token_ids))

    async def aclose(self) -> None:
        """Give the threads back; no prompt can be built afterwards."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self.pixel_pool is not None:
            self.pixel_pool.close()

    def _slots(
        self,
        pictures: Sequence[Picture | SeenVideo | ImageSize],
        parts: Sequence[ImagePart | VideoShown | ImageSize],
    ) -> list[ImageTokens]:
        if self._tiles is None or self._image_id is None:
            return []
        return picture_slots(
            pictures, parts, self._tiles, image_id=self._image_id, clip=self._clip, tokenizer=self.tokenizer
        )

    async def _encoded(self, rendered: Rendered, slots: Sequence[ImageTokens]) -> tuple[list[int], list[int]]:
        """Return what `prompt_ids` does, without a thread for a short text: to wake one takes as long."""
        encode = partial(
            prompt_ids,
            rendered,
            slots,
            self.tokenizer,
            session_len=self.session_len,
            vocab=self._vocab,
            bos_each_piece=self._template.bos_each_piece,
        )
        if sum(map(len, rendered.pieces)) <= SHORT_TEXT:
            return encode()
        return await asyncio.get_running_loop().run_in_executor(self._threads, encode)
