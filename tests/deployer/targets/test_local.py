"""`deploy up`, `status`, `down` on this machine: a server in the background, and what a user can do wrong."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Generator
from pathlib import Path
from threading import Timer

import httpx
import pytest
from own_words import with_own

from deployer.cli import main
from deployer.config.schema import DeployConfig
from deployer.targets import background, local

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
    (tmp_path / "deployer").mkdir()
    for name, began in (("one", "1"), ("two", "2")):
        record(tmp_path / "deployer", name, pid=os.getpid(), began=began)
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
    record(tmp_path, "pocket_vl", pid=os.getpid(), began="1")
    words = [*WORDS, f"target.state_dir={tmp_path}"]
    assert main(["status", *words]) == 6
    assert f"process {os.getpid()} has ended" in capsys.readouterr().out
    assert main(["down", *words]) == 0
    assert not (tmp_path / "pocket_vl.pid.json").exists()


@pytest.fixture
def sleepers(tmp_path: Path) -> Generator[dict[str, subprocess.Popen[bytes]], None, None]:
    """Two processes, each with a pid file as `deploy up` writes it."""
    found = {name: subprocess.Popen(["sleep", "60"]) for name in ("one", "two")}
    for name, process in found.items():
        record(tmp_path, name, pid=process.pid, began=background.began(process.pid))
    yield found
    for process in found.values():
        process.kill()
        process.wait()


def record(folder: Path, name: str, *, pid: int, began: str | None, url: str = "http://127.0.0.1:9") -> None:
    held = {"name": name, "pid": pid, "began": began, "url": url, "log": "l", "stop_s": 5.0}
    (folder / f"{name}.pid.json").write_text(json.dumps(held))


def test_without_a_deployment_a_server_is_ended_by_its_name_or_as_the_only_one(
    sleepers: dict[str, subprocess.Popen[bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path, "old", pid=os.getpid(), began="1")  # whose number this test has since
    here = f"target.state_dir={tmp_path}"
    assert main(["down", here]) == 2
    err = capsys.readouterr().err
    assert "2 servers run here (one, two): one is ended at a time; say which, as target.name=one" in err
    assert [process.poll() for process in sleepers.values()] == [None, None]

    assert main(["down", "target.name=two", here]) == 0
    assert capsys.readouterr().out == f"two  none  process {sleepers['two'].pid} drained and ended\n"
    assert (sleepers["one"].poll(), sleepers["two"].wait()) == (None, -signal.SIGTERM)

    assert main(["down", here, "output=json"]) == 0
    ended = {one["name"]: one["detail"] for one in json.loads(capsys.readouterr().out)["servers"]}
    assert ended == {
        "old": "no such server runs",
        "one": f"process {sleepers['one'].pid} drained and ended",
    }
    assert sleepers["one"].wait() == -signal.SIGTERM
    assert main(["down", here]) == 0
    assert capsys.readouterr().out == "`deploy up` has started no such server on this machine\n"
    assert main(["down", "target=compose", here]) == 3, "which needs a deployment"


def test_a_server_of_another_user_is_told_and_stays_known(
    sleepers: dict[str, subprocess.Popen[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(held: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(signal, "pidfd_send_signal", refused)
    assert main(["down", "target.name=one", f"target.state_dir={tmp_path}"]) == 6
    assert f"`one`: process {sleepers['one'].pid} is another user's" in capsys.readouterr().err
    assert (tmp_path / "one.pid.json").exists()


@pytest.fixture
def starting(
    sleepers: dict[str, subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Words with which `deploy up` waits for a server that is never ready: the first of both processes."""
    (tmp_path / "l").write_text("the log\n")
    monkeypatch.chdir(tmp_path)

    def start(config: DeployConfig, folder: Path, name: str) -> background.Background:
        record(folder, name, pid=sleepers["one"].pid, began=background.began(sleepers["one"].pid))
        started = background.read(folder, name)
        assert started is not None
        return started

    monkeypatch.setattr(local, "_start", start)
    return [*WORDS, "target.name=new", f"target.state_dir={tmp_path}"]


def test_up_ends_where_its_server_is_ended_by_another_command(
    starting: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`deploy down` takes the pid file with it, so nothing is known of the name any more."""
    down = Timer(0.5, local.down_in, args=(str(tmp_path),), kwargs={"name": "new"})
    waits_for_ever = Timer(20, signal.raise_signal, args=(signal.SIGINT,))
    down.start()
    waits_for_ever.start()
    assert main(["up", *starting]) == 6
    waits_for_ever.cancel()
    assert "`new` ended before it was ready" in capsys.readouterr().err
    down.join()


def test_ctrl_c_says_that_the_server_goes_on_starting_and_how_it_is_ended(
    starting: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(local.time, "sleep", interrupted)
    assert main(["up", *starting]) == 130
    assert "`new` goes on starting as process" in (err := capsys.readouterr().err)
    assert "`deploy down target.name=new` ends it" in err


def test_a_server_that_listens_and_does_not_answer_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as held:
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        record(tmp_path, "one", pid=os.getpid(), began=background.began(os.getpid()), url=url)
        assert main(["status", f"target.state_dir={tmp_path}"]) == 6
    assert capsys.readouterr().out.startswith(f"one  silent  no answer within 0.1 s: process {os.getpid()}, ")


def test_a_pid_file_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut.pid.json").write_text('{"name": "cut", "pid"')
    assert main(["down", f"target.state_dir={tmp_path}"]) == 6
    assert f"{tmp_path / 'cut.pid.json'} cannot be read" in capsys.readouterr().err


def test_a_pid_file_that_is_none_hides_no_other_server(
    sleepers: dict[str, subprocess.Popen[bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.pid.json").write_bytes(b"")
    assert main(["status", f"target.state_dir={tmp_path}"]) == 6
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[:2] for row in rows] == [
        ["cut", "unreadable"],
        ["one", "starting"],
        ["two", "starting"],
    ]
    assert f"{tmp_path / 'cut.pid.json'} cannot be read" in rows[0]


def test_a_free_port_cannot_be_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", *WORDS, f"target.state_dir={tmp_path}", "server.port=0"]) == 6
    assert "server.port=0" in capsys.readouterr().err
