"""The gRPC port: what refuses to open, and TLS."""

import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from serving import make_service
from serving_configs import SERVER

from deployer.errors import UnavailableError
from deployer.serve.app import create_app
from deployer.serve.kserve import listen
from deployer.serve.kserve.listen import check_grpc, grpc_listening


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listen, "is_installed", lambda name: False)
    check_grpc(SERVER)
    with pytest.raises(UnavailableError, match=r"needs `grpc` and `google\.protobuf`; pip install 'vlm-"):
        check_grpc(replace(SERVER, grpc_port=0))


def test_a_port_in_use_is_refused_by_its_own_key() -> None:
    pytest.importorskip("grpc", reason="the gRPC port needs grpcio and protobuf (the extra `grpc`)")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=rf"server\.grpc_port={port}: in use on 127\.0\.0\.1"):
            check_grpc(replace(SERVER, grpc_port=port))


async def test_tls_is_that_of_http(engine: Callable[..., object], tmp_path: Path) -> None:
    aio = pytest.importorskip("tritonclient.grpc.aio", reason="the test client of the gRPC port")
    if shutil.which("openssl") is None:
        pytest.skip("no `openssl` command to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(make.split(), check=True, capture_output=True)
    server = replace(SERVER, grpc_port=0, ssl_keyfile=str(key), ssl_certfile=str(certificate))
    async with grpc_listening(create_app(make_service(engine)), server) as address:  # type: ignore[arg-type]
        client = aio.InferenceServerClient(address, ssl=True, root_certificates=str(certificate))
        assert await client.is_server_ready()
        await client.close()
        plain = aio.InferenceServerClient(address)
        with pytest.raises(Exception, match="UNAVAILABLE"):
            await plain.is_server_live()
        await plain.close()
