"""From where a picture was said to be to its encoded bytes: data:, http(s): and file: URLs, paths, bytes."""

import asyncio
import base64
import binascii
import os
import stat
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from deployer.config.schema import VisionConfig
from deployer.prompt.fetch import Fetcher, FetchLimits
from deployer.prompt.image_errors import ImageError


class ImageBytes:
    """Reads pictures within the limits of `vision`."""

    def __init__(self, fetcher: Fetcher, *, max_image_bytes: int, file_root: Path | None) -> None:
        self._fetcher = fetcher
        self._limit = max_image_bytes
        self._root = file_root

    async def read(self, source: str | bytes | Path, *, index: int) -> bytes:
        """Return the encoded picture, at least one byte and at most the limit. Raises ImageError."""
        data = await self._data(source, index)
        if not data:
            raise ImageError("0 bytes: a picture file was expected", code="image_empty", index=index)
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
            return await asyncio.to_thread(self._data_url, source.strip(), index)
        if scheme == "file":
            return await asyncio.to_thread(self._file, self._below_root(source.strip(), index), index)
        if scheme in ("http", "https"):
            return await self._fetcher.fetch(source.strip(), index=index)
        raise ImageError(
            f"`{source[:40]}`: must be a data:, http:, https: or file: URL",
            code="image_url_invalid",
            index=index,
        )

    def _data_url(self, url: str, index: int) -> bytes:
        """Decode `data:[type][;base64],...` (RFC 2397), its length looked at first."""
        head, comma, body = url.partition(",")
        if not comma:
            raise ImageError("data: URL without a comma", code="image_url_invalid", index=index)
        if not head.lower().endswith(";base64"):
            return unquote_to_bytes(body)
        if len(body) > self._limit * 2:  # base64 is 4/3; line breaks and percent signs may come on top
            raise self._too_large(len(body) * 3 // 4, index)
        compact = "".join((unquote(body) if "%" in body else body).split())
        try:
            return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True)
        except (binascii.Error, ValueError) as error:
            raise ImageError(
                f"data: URL is not base64: {error}", code="image_url_invalid", index=index
            ) from error

    def _below_root(self, url: str, index: int) -> Path:
        """Return the file a file: URL means, links followed, where it lies below `vision.file_root`."""
        if self._root is None:
            raise ImageError(
                "file: URLs are off: set vision.file_root to a folder, or send a data: URL",
                code="image_file_refused",
                index=index,
            )
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise ImageError(
                f"`{url[:120]}` is no URL: {error}", code="image_url_invalid", index=index
            ) from error
        outside = ImageError(
            f"`{url[:120]}` does not name a readable file below vision.file_root",
            code="image_file_refused",
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
            raise ImageError(
                f"{path} cannot be read: {error.strerror if isinstance(error, OSError) else error}",
                code="image_file_refused",
                index=index,
            ) from error
        try:
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode):
                raise ImageError(f"{path} is not a regular file", code="image_file_refused", index=index)
            if state.st_size > self._limit:
                raise self._too_large(state.st_size, index)
            with os.fdopen(handle, "rb", closefd=False) as file:
                return file.read(self._limit + 1)
        finally:
            os.close(handle)

    def _too_large(self, size: int, index: int) -> ImageError:
        return ImageError(
            f"{size:,} bytes: must be at most {self._limit:,} (vision.max_image_bytes); "
            "send a smaller picture",
            code="image_too_large",
            index=index,
        )


def image_bytes(vision: VisionConfig) -> ImageBytes:
    """Return what reads pictures within these limits."""
    limits = FetchLimits(
        max_image_bytes=vision.max_image_bytes,
        fetch_timeout_s=vision.fetch_timeout_s,
        max_redirects=vision.max_redirects,
        allowed_domains=vision.allowed_domains,
        allow_private_addresses=vision.allow_private_addresses,
    )
    root = None if vision.file_root is None else Path(vision.file_root)
    return ImageBytes(Fetcher(limits), max_image_bytes=vision.max_image_bytes, file_root=root)
