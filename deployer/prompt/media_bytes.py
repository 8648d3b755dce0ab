"""From where a picture or a video is said to be to its bytes: data:, http(s), file: URLs, paths, bytes."""

import asyncio
import base64
import binascii
import os
import stat
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from deployer.config.schema import VisionConfig
from deployer.prompt.fetch import Fetcher, FetchLimits
from deployer.prompt.media import MAX_BYTES, NOUNS, Medium, refused
from engines.errors import RequestError


class MediaBytes:
    """Reads pictures, or videos, within the limits of `vision`."""

    def __init__(self, limits: FetchLimits, *, file_root: Path | None) -> None:
        self._fetcher = Fetcher(limits)
        self._medium: Medium = limits.medium
        self._limit = limits.max_bytes
        self._root = file_root

    async def read(self, source: str | bytes | Path, *, index: int) -> bytes:
        """Return the encoded file, at least one byte and at most the limit. Raises RequestError."""
        data = await self._data(source, index)
        if not data:
            raise self._refused(
                f"0 bytes: a {NOUNS[self._medium]} file was expected", fault="empty", index=index
            )
        if len(data) > self._limit:
            raise self._too_large(len(data), index)
        return data

    async def _data(self, source: str | bytes | Path, index: int) -> bytes:
        if isinstance(source, bytes):
            return source
        if isinstance(source, Path):
            return await asyncio.to_thread(self._file, Path(os.path.realpath(source)), index)
        scheme = source[:8].partition(":")[0].strip().lower()
        if scheme == "data":
            return await asyncio.to_thread(self.of_data_url, source.strip(), index=index)
        if scheme == "file":
            return await asyncio.to_thread(self._file, self._below_root(source.strip(), index), index)
        if scheme in ("http", "https"):
            return await self._fetcher.fetch(source.strip(), index=index)
        raise self._refused(
            f"`{source[:40]}`: must be a data:, http:, https: or file: URL",
            fault="url_invalid",
            index=index,
        )

    def of_data_url(self, url: str, *, index: int) -> bytes:
        """Decode `data:[type][;base64],...` (RFC 2397), its length looked at first. Raises RequestError."""
        head, comma, body = url.partition(",")
        if not comma:
            raise self._refused("data: URL without a comma", fault="url_invalid", index=index)
        if not head.lower().endswith(";base64"):
            return unquote_to_bytes(body)
        if len(body) > self._limit * 2:  # base64 is 4/3; line breaks and percent signs may come on top
            raise self._too_large(len(body) * 3 // 4, index)
        compact = "".join((unquote(body) if "%" in body else body).split())
        try:
            return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise self._refused(
                f"data: URL is not base64: {error}", fault="url_invalid", index=index
            ) from error

    def _below_root(self, url: str, index: int) -> Path:
        """Return the file a file: URL means, links followed, where it lies below `vision.file_root`."""
        if self._root is None:
            raise self._refused(
                "file: URLs are off: set vision.file_root to a folder, or send a data: URL",
                fault="file_refused",
                index=index,
            )
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise self._refused(
                f"`{url[:120]}` is no URL: {error}", fault="url_invalid", index=index
            ) from error
        outside = self._refused(
            f"`{url[:120]}` does not name a readable file below vision.file_root",
            fault="file_refused",
            index=index,
        )
        if parts.netloc not in ("", "localhost") or "\0" in unquote(parts.path):
            raise outside
        try:
            path = Path(unquote(parts.path)).resolve(strict=True)
            root = self._root.resolve(strict=True)
        except (OSError, RuntimeError, UnicodeError) as error:
            raise outside from error
        if not path.is_relative_to(root):
            raise outside
        return path

    def _file(self, path: Path, index: int) -> bytes:
        """Return the content of a regular file, no link; a device or a pipe is refused."""
        try:
            # Links were followed before: one put there since must not lead outside `vision.file_root`.
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except (OSError, ValueError) as error:
            raise self._refused(
                f"{path} cannot be read: {error.strerror if isinstance(error, OSError) else error}",
                fault="file_refused",
                index=index,
            ) from error
        try:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode):
                raise self._refused(f"{path} is not a regular file", fault="file_refused", index=index)
            if state.st_size > self._limit:
                raise self._too_large(state.st_size, index)
            with os.fdopen(handle, "rb", closefd=False) as file:
                return file.read(self._limit + 1)
        finally:
            os.close(handle)

    def _too_large(self, size: int, index: int) -> RequestError:
        return self._refused(
            f"{size:,} bytes: must be at most {self._limit:,} ({MAX_BYTES[self._medium]}); "
            f"send a smaller {NOUNS[self._medium]}",
            fault="too_large",
            index=index,
        )

    def _refused(self, message: str, *, fault: str, index: int) -> RequestError:
        return refused(self._medium, message, fault=fault, index=index)


def image_bytes(vision: VisionConfig) -> MediaBytes:
    """Return what reads pictures within these limits."""
    return _media_bytes(vision, "image", max_bytes=vision.max_image_bytes, timeout_s=vision.fetch_timeout_s)


def video_bytes(vision: VisionConfig) -> MediaBytes:
    """Return what reads videos within these limits."""
    return _media_bytes(vision, "video", max_bytes=vision.max_video_bytes, timeout_s=vision.video_timeout_s)


def _media_bytes(vision: VisionConfig, medium: Medium, *, max_bytes: int, timeout_s: float) -> MediaBytes:
    limits = FetchLimits(
        medium=medium,
        max_bytes=max_bytes,
        timeout_s=timeout_s,
        max_redirects=vision.max_redirects,
        allowed_domains=vision.allowed_domains,
        allow_private_addresses=vision.allow_private_addresses,
    )
    return MediaBytes(limits, file_root=None if vision.file_root is None else Path(vision.file_root))
