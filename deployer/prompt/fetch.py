"""Downloading a picture or a video over http(s) within limits: bytes, time, redirects, hosts, addresses."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import httpcore
import httpx

from deployer.prompt.addresses import is_allowed_domain
from deployer.prompt.media import MAX_BYTES, NOUNS, TIMEOUT, Medium, refused
from deployer.prompt.pinned_network import AddressRefusedError, PinnedNetwork
from engines.errors import RequestError

_ACCEPT: dict[Medium, str] = {
    "image": "image/png, image/jpeg, image/webp, image/gif, image/bmp, image/tiff, */*;q=0.5",
    "video": "video/mp4, video/webm, video/*;q=0.9, */*;q=0.5",
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchLimits:
    """What one download may cost and reach; values are keys of `vision`."""

    medium: Medium
    max_bytes: int
    timeout_s: float
    max_redirects: int
    allowed_domains: Sequence[str] | None
    allow_private_addresses: bool


class Fetcher:
    """Downloads pictures or videos; one of either for a server. Every download has connections of its own."""

    def __init__(self, limits: FetchLimits, *, tls: ssl.SSLContext | None = None) -> None:
        """`tls`: which certificates to trust; None: the public ones."""
        self._limits = limits
        self._tls = tls  # the public ones are read on the first download

    async def fetch(self, url: str, *, index: int) -> bytes:
        """Return the body behind `url`. Raises RequestError."""
        limits = self._limits
        try:
            async with asyncio.timeout(limits.timeout_s):
                return await self._follow(url, index)
        except TimeoutError as error:
            raise self._refused(
                f"{_shown(url)} took longer than {limits.timeout_s:g} s ({TIMEOUT[limits.medium]}), "
                "redirects included; send it as a data: URL",
                fault="fetch_timeout",
                index=index,
            ) from error

    async def _follow(self, url: str, index: int) -> bytes:
        self._tls = self._tls or httpcore.default_ssl_context()
        network = PinnedNetwork(allow_private_addresses=self._limits.allow_private_addresses)
        async with httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=network) as pool:
            target = self._checked(url, index)
            for _ in range(self._limits.max_redirects + 1):
                body_or_target = await self._get(pool, target, index)
                if isinstance(body_or_target, bytes):
                    return body_or_target
                target = body_or_target
        raise self._refused(
            f"{_shown(url)} redirects more than {self._limits.max_redirects} times (vision.max_redirects)",
            fault="fetch_failed",
            index=index,
        )

    async def _get(self, pool: httpcore.AsyncConnectionPool, url: httpx.URL, index: int) -> bytes | httpx.URL:
        """Return the body, or where the host sends us instead."""
        try:
            async with pool.stream("GET", str(url), headers=self._headers(url)) as response:
                headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
                if response.status in _REDIRECTS and b"location" in headers:
                    return self._checked(str(self._join(url, headers[b"location"], index)), index)
                if response.status != 200:
                    raise self._refused(
                        f"{_shown(str(url))} answered {response.status}: must be 200",
                        fault="fetch_failed",
                        index=index,
                    )
                return await self._read(response, headers.get(b"content-length"), index)
        except AddressRefusedError as error:
            raise self._refused(
                f"{error}: must be a public address; whoever runs the server admits others by "
                "vision.allow_private_addresses=true",
                fault="address_refused",
                index=index,
            ) from error
        except (
            httpcore.NetworkError,
            httpcore.ProtocolError,
            httpcore.TimeoutException,
            ssl.SSLError,
        ) as error:
            raise self._refused(
                f"{_shown(str(url))} cannot be fetched: {error or type(error).__name__}",
                fault="fetch_failed",
                index=index,
            ) from error

    async def _read(self, response: httpcore.Response, length: str | None, index: int) -> bytes:
        """Return the body, given up as soon as it is known to be too long."""
        medium, limit = self._limits.medium, self._limits.max_bytes
        too_large = self._refused(
            f"the download is larger than {limit:,} bytes ({MAX_BYTES[medium]}); "
            f"send a smaller {NOUNS[medium]}",
            fault="too_large",
            index=index,
        )
        if length is not None and length.isdecimal() and int(length) > limit:
            raise too_large
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > limit:
                raise too_large
        return bytes(body)

    def _checked(self, url: str, index: int) -> httpx.URL:
        """Return `url` parsed, its scheme and host being allowed; its addresses are checked on connecting."""
        try:
            parsed, host = _parsed(url)
        except ValueError as error:
            raise self._refused(
                f"{_shown(url)} is no URL: {error}", fault="url_invalid", index=index
            ) from error
        if parsed.scheme not in ("http", "https") or not host or parsed.userinfo:
            raise self._refused(
                f"{_shown(url)}: must be http: or https: with a host and without a user name",
                fault="url_invalid",
                index=index,
            )
        if not is_allowed_domain(host, self._limits.allowed_domains):
            allowed = (
                ", ".join(f"`{domain}`" for domain in sorted(self._limits.allowed_domains or ())) or "none"
            )
            raise self._refused(
                f"host `{host}` is not allowed: known are {allowed} (vision.allowed_domains)",
                fault="address_refused",
                index=index,
            )
        return parsed.copy_with(fragment=None)

    def _join(self, url: httpx.URL, location: str, index: int) -> httpx.URL:
        try:
            return url.join(location)
        except (httpx.InvalidURL, ValueError) as error:
            raise self._refused(
                f"{_shown(str(url))} redirects to what is no URL", fault="fetch_failed", index=index
            ) from error

    def _refused(self, message: str, *, fault: str, index: int) -> RequestError:
        return refused(self._limits.medium, message, fault=fault, index=index)

    def _headers(self, url: httpx.URL) -> list[tuple[str, str]]:
        return [
            ("Host", url.netloc.decode("ascii")),
            ("Accept", _ACCEPT[self._limits.medium]),
            ("Accept-Encoding", "identity"),
            ("User-Agent", "vlm-deployer"),
        ]


def _parsed(url: str) -> tuple[httpx.URL, str]:
    """Return `url` in parts and its host's name, both fit for a connection. Raises ValueError."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from error
    if parsed.port is not None and not 1 <= parsed.port <= 65535:
        raise ValueError(f"port {parsed.port}: must be 1 to 65535")
    try:
        host = parsed.host
    except UnicodeError as error:
        raise ValueError(f"its host is no name that IDNA knows: {error}") from error
    httpcore.URL(str(parsed).encode("ascii"))  # the pool reads the text once more, by rules of its own
    return parsed, host


def _shown(url: str) -> str:
    """Return the URL as a message shows it: no query, where secrets live, and not endless."""
    short = url.partition("?")[0].partition("#")[0]
    return short if len(short) <= 120 else f"{short[:117]}..."
