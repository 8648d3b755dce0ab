"""`deploy up`, `status`, `down` on this machine: a server in the background, and what a user can do wrong."""

import json
import os
import socket
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
from own_words import with_own

from deployer.cli import main

WORDS = ("+model=pocket_vl", "engine=pytorch", "engine.device_type=cpu", "engine.num_gpu_blocks=32")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Generator[list[str], None, None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("state")
    found = [*WORDS, f"target.state_dir={folder}", f"server.port={port}", "server.drain_s=5"]
    yield found
    main(["down", *found])


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    found: dict[str, str] = json.loads(capsys.readouterr().out)
    return found


def test_a_server_starts_answers_and_ends(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", *words]) == 6
    assert "none" in capsys.readouterr().out
    assert main(["up", *words, "output=json"]) == 0
    standing = told(capsys)
    assert (standing["name"], standing["state"]) == ("pocket_vl", "ready")
    url = standing["detail"].split(", ")[1]
    assert httpx.get(f"{url}/v1/models").status_code == 200

    assert main(["up", *words]) == 6
    assert "`pocket_vl` runs already: process " in capsys.readouterr().err
    assert main(["status", *words]) == 0
    assert "pocket_vl  ready  process " in capsys.readouterr().out

    assert main(["down", *words]) == 0
    assert "drained and ended" in capsys.readouterr().out
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")
    assert main(["down", *words]) == 0, "down is done, however often it is asked for"


def test_a_start_that_fails_shows_the_end_of_the_log(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("one\n")
    both = [f"server.{whose}_file={keys}" for whose in ("api_keys", "admin_keys")]
    assert main(["up", *with_own(words, ["target.name=second", *both])]) == 6
    *log, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: `second` ended before it was ready; the end of its log stands above, all ")
    assert any(line.startswith(f"error: {both[1]}: holds keys of clients") for line in log)
    assert not any("error: error:" in line for line in log)


def test_a_port_that_another_server_has_is_refused_before_it_is_asked(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        asked = with_own(words, ["target.name=third", f"server.port={port}"])
        assert main(["up", *asked]) == 6
    assert f"server.port={port} (command line `server.port={port}`): in use on" in capsys.readouterr().err
    assert main(["status", *asked]) == 6
    assert "third  none  " in capsys.readouterr().out, "nothing was started"


def test_without_a_deployment_every_server_of_this_machine_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert main(["status"]) == 6
    assert capsys.readouterr().out == "`deploy up` has started no such server on this machine\n"
    for name, pid, began in (("one", os.getpid(), "1"), ("two", os.getpid(), "2")):
        record = {
            "name": name, "pid": pid, "began": began, "url": "http://127.0.0.1:9", "log": "l", "stop_s": 1.0,
        }  # fmt: skip
        (tmp_path / "deployer").mkdir(exist_ok=True)
        (tmp_path / "deployer" / f"{name}.pid.json").write_text(json.dumps(record))
    assert main(["status"]) == 6
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert rows == [["one", "gone"], ["two", "gone"]]
    assert main(["status", "output=json"]) == 6
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["servers"]] == ["one", "two"]
    assert main(["status", "target.name=two", f"target.state_dir={tmp_path / 'deployer'}"]) == 6
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["two"]
    assert main(["status", f"target.state_dir={tmp_path}"]) == 6
    assert "no such server" in capsys.readouterr().out
    assert main(["status", "target=compose"]) == 3, "which needs a deployment"


def test_a_process_that_has_the_number_of_a_dead_server_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pid file names this test; it began at another time, so it is not the server."""
    record = {
        "name": "pocket_vl",
        "pid": os.getpid(),
        "began": "1",
        "url": "http://127.0.0.1:9",
        "log": "x.log",
        "stop_s": 1.0,
    }
    (tmp_path / "pocket_vl.pid.json").write_text(json.dumps(record))
    words = [*WORDS, f"target.state_dir={tmp_path}"]
    assert main(["status", *words]) == 6
    assert f"process {os.getpid()} has ended" in capsys.readouterr().out
    assert main(["down", *words]) == 0
    assert not (tmp_path / "pocket_vl.pid.json").exists()


def test_a_free_port_cannot_be_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", *WORDS, f"target.state_dir={tmp_path}", "server.port=0"]) == 6
    assert "server.port=0" in capsys.readouterr().err
