"""Downloads against a host on loopback that can misbehave."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from picture_host import ok, picture_host

from deployer.prompt.fetch import Fetcher, FetchLimits
from deployer.prompt.image_errors import ImageError


def fetcher(**changes: Any) -> Fetcher:
    limits: dict[str, Any] = {
        "medium": "image",
        "max_bytes": 100_000,
        "timeout_s": 2,
        "max_redirects": 2,
        "allowed_domains": None,
        "allow_private_addresses": True,
    }
    return Fetcher(FetchLimits(**{**limits, **changes}))


# Well formed enough to be parsed, and nothing that a connection can be made to.
UNCONNECTABLE = {
    "http://127.0.0.1:99999/": "port 99999: must be 1 to 65535",
    "http://127.0.0.1:65536/": "port 65536: must be 1 to 65535",
    "http://127.0.0.1:0/": "port 0: must be 1 to 65535",
    "http://127.0.0.1:-1/": "port -1: must be 1 to 65535",
    "http://[::1]:70000/": "port 70000: must be 1 to 65535",
    "http://xn--a/": "its host is no name that IDNA knows",
    "http://xn--n3h.com/": "its host is no name that IDNA knows",
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a key and a certificate for `pictures.example`, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no `openssl` command to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    names = ["-subj", "/CN=pictures.example", "-addext", "subjectAltName=DNS:pictures.example"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    subprocess.run(
        [*command, *names, "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True
    )
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


async def refused(url: str, code: str, **changes: Any) -> str:
    with pytest.raises(ImageError) as caught:
        await fetcher(**changes).fetch(url, index=2)
    assert caught.value.code == code
    assert str(caught.value).startswith("image 3: ")
    return str(caught.value)


async def test_a_picture_is_fetched_with_its_host_named() -> None:
    async with picture_host(picture=ok(b"bytes")) as host:
        assert await fetcher().fetch(host.url("/picture"), index=0) == b"bytes"
        assert f"host: 127.0.0.1:{host.port}\r\n" in host.seen[0].lower()


async def test_a_body_of_the_announced_length_is_read_in_chunks_too() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with picture_host(chunked=chunked) as host:
        assert await fetcher().fetch(host.url("/chunked"), index=0) == b"abcde"


async def test_redirects_are_followed_up_to_the_limit() -> None:
    async with picture_host(picture=ok(b"bytes")) as host:
        host.redirect("/a", "/b")
        host.redirect("/b", host.url("/picture"))
        assert await fetcher().fetch(host.url("/a"), index=0) == b"bytes"
        host.redirect("/loop", "/loop")
        message = await refused(host.url("/loop"), "image_fetch_failed")
        assert "redirects more than 2 times (vision.max_redirects)" in message
        assert sum("GET /loop" in head for head in host.seen) == 3


async def test_a_redirect_to_a_scheme_or_host_that_is_not_allowed_is_refused() -> None:
    async with picture_host() as host:
        host.redirect("/file", "file:///etc/passwd")
        await refused(host.url("/file"), "image_url_invalid")
        host.redirect("/away", "http://elsewhere.example/x")
        message = await refused(host.url("/away"), "image_address_refused", allowed_domains=["127.0.0.1"])
        assert "host `elsewhere.example` is not allowed: known are `127.0.0.1`" in message


@pytest.mark.parametrize(
    "host_name", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1"]
)
async def test_loopback_in_every_spelling_is_refused_before_it_is_contacted(host_name: str) -> None:
    async with picture_host(picture=ok(b"bytes")) as host:
        message = await refused(
            host.url("/picture", host=host_name), "image_address_refused", allow_private_addresses=False
        )
        assert "must be a public address" in message
        assert host.seen == []


async def test_a_name_is_resolved_once_so_that_it_cannot_change_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    async def rebinding(host: str, port: int, **_: object) -> list[Any]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) > 1 else "203.0.114.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    connected = []

    async def connect(self: object, host: str, port: int, *_: object) -> None:
        connected.append(host)
        raise OSError("no network here")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebinding)
    monkeypatch.setattr("httpcore.AnyIOBackend.connect_tcp", connect)
    with pytest.raises(OSError, match="no network here"):
        await fetcher(allow_private_addresses=False).fetch("http://rebind.example/", index=0)
    assert asked == ["rebind.example"]
    assert connected == ["203.0.114.1"]


async def test_one_private_address_among_public_ones_refuses_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def two(host: str, port: int, **_: object) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("8.8.8.8", "10.0.0.1")
        ]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", two)
    message = await refused("http://two.example/", "image_address_refused", allow_private_addresses=False)
    assert "two.example resolves to 10.0.0.1" in message


@pytest.mark.parametrize("path", ["/slow", "/silent"])
async def test_a_host_that_drips_or_says_nothing_is_given_up_in_time(path: str) -> None:
    async with picture_host() as host:
        started = time.monotonic()
        message = await refused(host.url(path), "image_fetch_timeout", timeout_s=0.3)
        assert time.monotonic() - started < 2
        assert "took longer than 0.3 s (vision.fetch_timeout_s)" in message


async def test_an_endless_or_too_long_body_is_given_up_at_the_limit() -> None:
    async with picture_host(long=ok(b"x" * 100_001), full=ok(b"x" * 100_000)) as host:
        assert len(await fetcher().fetch(host.url("/full"), index=0)) == 100_000
        for path in ("/endless", "/long"):
            assert "larger than 100,000 bytes" in await refused(host.url(path), "image_too_large")


async def test_a_host_that_is_not_there_or_answers_an_error_is_named() -> None:
    async with picture_host(garbage=b"not http\r\n\r\n") as host:
        assert "answered 404" in await refused(host.url("/absent?token=secret"), "image_fetch_failed")
        assert "secret" not in await refused(host.url("/absent?token=secret"), "image_fetch_failed")
        await refused(host.url("/garbage"), "image_fetch_failed")
    await refused(host.url("/"), "image_fetch_failed")
    await refused("http://no-such-host.invalid/", "image_fetch_failed")


async def test_a_certificate_is_held_to_the_name_and_not_to_the_address(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def loopback(host: str, port: int, **_: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with picture_host(tls=server, picture=ok(b"bytes")) as host:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", loopback)
        limits = fetcher()._limits
        right, wrong = (f"https://{name}.example:{host.port}/picture" for name in ("pictures", "others"))
        assert await Fetcher(limits, tls=trusting).fetch(right, index=0) == b"bytes"
        with pytest.raises(ImageError, match="certificate"):
            await Fetcher(limits, tls=trusting).fetch(wrong, index=0)
        with pytest.raises(ImageError, match="certificate"):
            await Fetcher(limits).fetch(right, index=0)


@pytest.mark.parametrize(("url", "rule"), UNCONNECTABLE.items())
async def test_a_port_or_host_that_no_connection_can_have_is_refused(url: str, rule: str) -> None:
    assert f"{url} is no URL: {rule}" in await refused(url, "image_url_invalid")


@pytest.mark.parametrize(("url", "rule"), UNCONNECTABLE.items())
async def test_a_redirect_to_a_port_or_host_that_no_connection_can_have_is_refused(
    url: str, rule: str
) -> None:
    async with picture_host() as host:
        host.redirect("/away", url)
        assert f"{url} is no URL: {rule}" in await refused(host.url("/away"), "image_url_invalid")


async def test_a_redirect_to_what_is_no_url_is_refused() -> None:
    async with picture_host() as host:
        host.redirect("/away", "http://[::1/x")
        assert "redirects to what is no URL" in await refused(host.url("/away"), "image_fetch_failed")


@pytest.mark.parametrize("host_name", ["a..b", ".", f"{'a' * 64}.example", "b.xn--a", "[fe80::1%25zone]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_name_that_cannot_be_resolved_or_reached_is_refused(scheme: str, host_name: str) -> None:
    await refused(f"{scheme}://{host_name}/", "image_fetch_failed")


async def test_an_address_whose_zone_is_not_ascii_is_refused() -> None:
    await refused("http://[::1%25\u0661]/", "image_url_invalid")


@pytest.mark.parametrize("url", ["http://", "http://[::1", "https://user:word@example.com/"])
async def test_a_broken_url_is_refused(url: str) -> None:
    await refused(url, "image_url_invalid")


async def test_no_domains_means_no_downloads() -> None:
    assert "known are none" in await refused(
        "http://example.com/", "image_address_refused", allowed_domains=[]
    )
