import base64
import os
from pathlib import Path
from typing import Any

import pytest
from picture_host import ok, picture_host

from deployer.prompt.fetch import FetchLimits
from deployer.prompt.image_errors import ImageError
from deployer.prompt.media_bytes import MediaBytes


def reader(*, max_image_bytes: int = 1000, file_root: Path | None = None) -> MediaBytes:
    limits = FetchLimits(
        medium="image",
        max_bytes=max_image_bytes,
        timeout_s=2,
        max_redirects=0,
        allowed_domains=None,
        allow_private_addresses=True,
    )
    return MediaBytes(limits, file_root=file_root)


async def refused(source: Any, code: str, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        await reader(**options).read(source, index=0)
    assert caught.value.code == code
    return str(caught.value)


@pytest.mark.parametrize(
    "head", ["data:image/png;base64,", "DATA:;Base64,", "data:application/octet-stream;base64,"]
)
async def test_a_data_url_is_decoded_whatever_type_it_claims(head: str) -> None:
    data = bytes(range(256))
    assert await reader().read(head + base64.b64encode(data).decode(), index=0) == data


async def test_base64_may_be_broken_into_lines_escaped_and_unpadded() -> None:
    text = base64.b64encode(b"\xfb\xff\xfe picture").decode()
    for variant in (
        text.rstrip("="),
        text[:5] + "\r\n" + text[5:],
        text.replace("+", "%2B").replace("=", "%3D"),
    ):
        assert await reader().read(f"data:image/png;base64,{variant}", index=0) == b"\xfb\xff\xfe picture"


async def test_a_data_url_without_base64_is_percent_decoded() -> None:
    assert await reader().read("data:image/png,%00a%FF", index=0) == b"\x00a\xff"


async def test_broken_data_urls_are_refused() -> None:
    assert "without a comma" in await refused("data:image/png;base64", "image_url_invalid")
    assert "is not base64" in await refused("data:image/png;base64,!!!!", "image_url_invalid")
    assert "0 bytes" in await refused("data:image/png;base64,", "image_empty")


async def test_too_many_bytes_are_refused_from_every_source(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"x" * 1001)
    sources = [
        "data:;base64," + base64.b64encode(b"x" * 1001).decode(),
        "data:," + "x" * 1001,
        b"x" * 1001,
        big,
    ]
    for source in sources:
        assert "must be at most 1,000 (vision.max_image_bytes)" in await refused(source, "image_too_large")
    await refused("data:;base64," + "A" * 4_000_000, "image_too_large")
    assert len(await reader().read(b"x" * 1000, index=0)) == 1000


async def test_http_urls_are_fetched() -> None:
    async with picture_host(picture=ok(b"bytes")) as host:
        assert await reader().read(f"  {host.url('/picture')}", index=0) == b"bytes"


@pytest.mark.parametrize(
    "url", ["", "picture.png", "/etc/passwd", "ftp://host/x", "javascript:x", "image/png;base64,AA"]
)
async def test_other_urls_are_refused_by_their_scheme(url: str) -> None:
    assert "must be a data:, http:, https: or file: URL" in await refused(url, "image_url_invalid")


async def test_files_are_off_without_a_root(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"bytes")
    assert "set vision.file_root" in await refused(f"file://{tmp_path}/a.png", "image_file_refused")


async def test_a_file_below_the_root_is_read(tmp_path: Path) -> None:
    (tmp_path / "sub dir").mkdir()
    (tmp_path / "sub dir" / "ä.png").write_bytes(b"bytes")
    for url in (
        f"file://{tmp_path}/sub%20dir/%C3%A4.png",
        f"file://localhost{tmp_path}/sub dir/../sub dir/ä.png",
    ):
        assert await reader(file_root=tmp_path).read(url, index=0) == b"bytes"


async def test_nothing_outside_the_root_is_read_or_told_apart(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (tmp_path / "root-too").mkdir()
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"s")
    (tmp_path / "root-too" / "secret").write_bytes(b"s")
    (root / "link").symlink_to(tmp_path / "secret")
    urls = ["/../secret", "/%2e%2e/secret", "/link", "-too/secret", "/absent", "/a%00b"]
    for url in urls:
        message = await refused(f"file://{root}{url}", "image_file_refused", file_root=root)
        assert "does not name a readable file below vision.file_root" in message
    await refused(f"file://otherhost{root}/x", "image_file_refused", file_root=root)


@pytest.mark.parametrize("url", ["file://[::1/x", "file://a]/x", "file://a\uff0fb/x"])
async def test_a_file_url_that_cannot_be_parsed_is_refused(tmp_path: Path, url: str) -> None:
    assert f"`{url}` is no URL: " in await refused(url, "image_url_invalid", file_root=tmp_path)


async def test_a_file_name_that_the_system_cannot_spell_is_refused(tmp_path: Path) -> None:
    await refused(f"file://{tmp_path}/\ud800", "image_file_refused", file_root=tmp_path)


async def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in await refused(
        f"file://{tmp_path}/pipe", "image_file_refused", file_root=tmp_path
    )
    assert "not a regular file" in await refused(tmp_path, "image_file_refused")


async def test_a_path_of_python_code_needs_no_root(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"bytes")
    assert await reader().read(tmp_path / "a.png", index=0) == b"bytes"
    assert "No such file" in await refused(tmp_path / "b.png", "image_file_refused")
