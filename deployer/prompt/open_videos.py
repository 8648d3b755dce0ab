"""The videos of a prompt, read and looked at: which frames each of them becomes. One of each is decoded.

Downloads run on the event loop. Files are opened by processes where there are any, else on threads.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from PIL import Image

from deployer.config.schema import VisionConfig
from deployer.counted import counted
from deployer.prompt.frame_choice import NO_WISH, FrameWish, chosen_frames, num_chosen
from deployer.prompt.frame_list import FRAMES_URL, FrameList, open_frames
from deployer.prompt.media_bytes import video_bytes
from deployer.prompt.messages import Message, Part, VideoPart, VideoSource
from deployer.prompt.pixel_job import TableJob
from deployer.prompt.pixel_pool import PixelPool
from deployer.prompt.seen_video import ClipPart, FramePart, SeenVideo, VideoShown
from deployer.prompt.together import together
from deployer.prompt.video_clock import VideoClock
from deployer.prompt.video_errors import VideoError
from deployer.prompt.video_file import VideoFile, open_video
from engines.errors import RequestError
from engines.vision.video_spec import VideoSpec


class VideoReader:
    """Reads the videos of any number of prompts at once, within the limits of the config."""

    def __init__(
        self,
        limits: VisionConfig,
        spec: VideoSpec | None,
        *,
        pool: PixelPool | None,
        threads: ThreadPoolExecutor,
    ) -> None:
        """`spec`: None for a model that takes none, which refuses all; `pool`: None: threads do it all."""
        self._limits = limits
        self._deployed = FrameWish(num_frames=limits.video_frames, fps=limits.video_fps)
        self._spec = spec
        self._bytes = video_bytes(limits)
        self._pool = pool
        self._threads = threads

    async def seen(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages with frames in the place of videos. Raises RequestError."""
        self._check(messages)
        videos = _videos(messages)
        share = self._limits.max_video_frames // max(1, len(videos))
        seen = await together(self._seen(part, index, share) for index, part in enumerate(videos))
        self._check_together(seen)
        pairs = zip(videos, seen, strict=True)
        frames = iter([self._frames(video, part) for part, video in pairs])
        return [_exchanged(message, frames) for message in messages]

    async def fetch(self, messages: Sequence[Message]) -> list[Message]:
        """Return the messages with their videos read: bytes for URLs and paths. Raises RequestError."""
        self._check(messages)
        read = await together(self._read(part.source, index) for index, part in enumerate(_videos(messages)))
        pairs = zip(_videos(messages), read, strict=True)
        parts = iter([(replace(part, source=source),) for part, source in pairs])
        return [_exchanged(message, parts) for message in messages]

    def _check(self, messages: Sequence[Message]) -> None:
        for position, message in enumerate(messages):
            count = sum(isinstance(part, VideoPart) for part in message.parts)
            if count and self._spec is None:
                raise RequestError(
                    "this model takes no videos: send frames as pictures (`image_url`), or serve one "
                    "that does",
                    code="videos_not_supported",
                )
            if count and message.role != "user":
                raise RequestError(
                    f"message {position + 1} ({message.role}) holds a video: only user messages may",
                    code="video_placement",
                )
        count, most = len(_videos(messages)), self._limits.max_videos
        if count > most:
            raise RequestError(
                f"{counted(count, 'video')}: must be at most {most:,} a request (vision.max_videos)",
                code="too_many_videos",
            )

    async def _seen(self, part: VideoPart, index: int, share: int) -> SeenVideo:
        """`share`: frames that a video gets at most that does not say how many."""
        begun_s = time.perf_counter()
        source = await self._read(part.source, index)
        fetch_s = time.perf_counter() - begun_s
        footage = await self._opened(source, index)
        wanted, seconds = self._wanted(footage, part.wish, index, share)
        assert self._spec is not None, "a model without videos has refused them"
        return SeenVideo(
            footage=footage,
            index=index,
            chosen=chosen_frames(self._spec.choice, footage.num_frames, wanted),
            seconds=seconds,
            fetch_begun_s=begun_s,
            fetch_s=fetch_s,
        )

    async def _read(self, source: VideoSource, index: int) -> bytes | tuple[bytes | Image.Image, ...]:
        """Return a video's bytes, or its frames."""
        if isinstance(source, tuple):
            return source
        if isinstance(source, str) and source[:64].lstrip().lower().startswith(FRAMES_URL):
            return await asyncio.to_thread(self._frames_of_url, source.strip(), index)
        return await self._bytes.read(source, index=index)

    def _frames_of_url(self, url: str, index: int) -> tuple[bytes, ...]:
        listed = url[len(FRAMES_URL) :]
        most, frames = self._limits.max_video_bytes, list[bytes]()
        too_large = VideoError(
            f"its frames are more than {most:,} bytes together (vision.max_video_bytes); send fewer, or "
            "smaller ones",
            code="video_too_large",
            index=index,
        )
        if len(listed) > 2 * most:  # base64 is 4/3; line breaks may come on top
            raise too_large
        clock = VideoClock.begin(self._limits.video_timeout_s, index=index)
        for frame in listed.split(","):
            clock.check()
            frames.append(self._bytes.of_data_url(f"data:;base64,{frame}", index=index))
        if sum(map(len, frames)) > most:
            raise too_large
        return tuple(frames)

    async def _opened(
        self, source: bytes | tuple[bytes | Image.Image, ...], index: int
    ) -> VideoFile | FrameList:
        most, timeout_s = self._limits.max_image_pixels, self._limits.video_timeout_s
        if isinstance(source, bytes) and self._pool is not None:
            reply, _ = await self._pool.run(TableJob(data=source, index=index))
            assert reply.table is not None, "a worker that finds no frames says why"
            return VideoFile(data=source, table=reply.table, max_pixels=most)
        look: Callable[[], VideoFile | FrameList]
        if isinstance(source, bytes):
            look = partial(open_video, source, index=index, max_pixels=most, timeout_s=timeout_s)
        else:
            look = partial(open_frames, source, index=index, max_pixels=most, timeout_s=timeout_s)
        return await asyncio.get_running_loop().run_in_executor(self._threads, look)

    def _wanted(
        self, footage: VideoFile | FrameList, wish: FrameWish, index: int, share: int
    ) -> tuple[int, float]:
        """Return how many frames are looked at, and the seconds that all of them stand for."""
        if isinstance(footage, FrameList):
            return self._of_list(footage, wish, index)
        return self._of_file(footage, wish, index, share), footage.seconds

    def _of_list(self, footage: FrameList, wish: FrameWish, index: int) -> tuple[int, float]:
        """Return how many frames of a list are looked at, and the seconds that it stands for.

        Only a family whose steps stand in time asks for these: `fps` says how the frames were taken.
        """
        assert self._spec is not None, "a model without videos has refused them"
        if wish.fps is not None and self._spec.clip is None:
            raise VideoError(
                f"`fps`={wish.fps:g} of a list of frames, which has no time: say `num_frames`, "
                "or send a file",
                code="video_option_refused",
                index=index,
            )
        rate = wish.fps or self._spec.fps
        seconds = 0.0 if rate is None else footage.num_frames / rate
        return footage.num_frames if wish.num_frames is None else wish.num_frames, seconds

    def _of_file(self, footage: VideoFile, wish: FrameWish, index: int, share: int) -> int:
        """Return how many frames of a file are looked at; more than there may be are an error of who asks."""
        assert self._spec is not None, "a model without videos has refused them"
        most = share if wish == NO_WISH else self._limits.max_video_frames
        wanted = num_chosen(
            self._spec, wish, self._deployed, count=footage.num_frames, seconds=footage.seconds
        )
        if wanted <= most or footage.num_frames <= most:
            return wanted
        if wish == NO_WISH:
            step = 1 if self._spec.clip is None else self._spec.clip.step_frames
            return max(1, most // step * step)
        raise _too_many(_said(wish, footage, wanted), most, index)

    def _check_together(self, videos: Sequence[SeenVideo]) -> None:
        """Raise RequestError for more frames than a request may have."""
        count, most = sum(len(video.chosen) for video in videos), self._limits.max_video_frames
        if count > most:
            others = " with those of the videos before it" if len(videos) > 1 else ""
            raise _too_many(f"{count:,} frames{others}", most, videos[-1].index)

    def _frames(self, video: SeenVideo, part: VideoPart) -> tuple[VideoShown, ...]:
        assert self._spec is not None, "a model without videos has refused them"
        if self._spec.clip is not None:
            return (ClipPart(video=video, fineness=part.fineness),)
        fineness = part.fineness
        if fineness.max_tiles is None:
            fineness = replace(fineness, max_tiles=1)
        return tuple(
            FramePart(video=video, place=place, label=self._spec.label.format(place + 1), fineness=fineness)
            for place in range(len(video.chosen))
        )


def _said(wish: FrameWish, footage: VideoFile, wanted: int) -> str:
    if wish.num_frames is not None:
        return f"`num_frames`={wanted:,}"
    return f"`fps`={wish.fps:g} of {footage.seconds:,.1f} s are {wanted:,} frames"


def _too_many(what: str, most: int, index: int) -> VideoError:
    return VideoError(
        f"{what}: must be at most {most:,} a request (vision.max_video_frames); ask for fewer `num_frames`, "
        "or a lower `fps`",
        code="video_too_many_frames",
        index=index,
    )


def _videos(messages: Sequence[Message]) -> list[VideoPart]:
    return [part for message in messages for part in message.parts if isinstance(part, VideoPart)]


def _exchanged(message: Message, others: Iterator[tuple[Part, ...]]) -> Message:
    """Return the message with the next of `others` in the place of each video."""
    parts = [next(others) if isinstance(part, VideoPart) else (part,) for part in message.parts]
    return replace(message, parts=tuple(part for some in parts for part in some))
