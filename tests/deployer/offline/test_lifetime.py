"""What a script leaves behind, however it ends: no process, no shared memory, no socket folder."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from offline import tiny_words

HEAD = f"""
import sys
from PIL import Image
from deployer import GenerationConfig, pipeline
from engines.errors import EngineError

def main():
    pipe = pipeline(sys.argv[1], *{tiny_words()!r})
    print("engine", pipe._async._open().engine.pid, flush=True)
    picture = Image.new("RGB", (60, 30))
"""
ENDS = {
    "closed by a with block": """
    with pipe:
        assert pipe(("What is this?", picture)).text
""",
    "dropped": """
    assert pipe(("What is this?", picture)).text
    del pipe
    import time; time.sleep(0.1)
""",
    "left in a stream": """
    next(pipe.stream_infer([("What is this?", picture)] * 20, GenerationConfig(ignore_eos=True)))
    raise SystemExit(3)
""",
    "forked": """
    import os, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and newer warn of a fork beside threads
    if os.fork() == 0:
        try:
            pipe("Hello")
        except EngineError as error:
            assert "forked from: make one here" in str(error)
            raise SystemExit(7)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
    assert pipe("Still there?").generate_token_len == 12
""",
    "interrupted": """
    try:
        print("asking", flush=True)
        pipe([("What is this?", picture)] * 40, GenerationConfig(max_new_tokens=1500, ignore_eos=True))
    except KeyboardInterrupt:
        assert pipe("Still there?").generate_token_len == 12
        print("interrupted", flush=True)
""",
}
TAIL = """
if __name__ == "__main__":
    main()
"""


@pytest.fixture
def ours(tmp_path: Path) -> dict[str, str]:
    """An environment in which a script's temporary files can be told from those of others."""
    return {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}


def is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]
    except FileNotFoundError:
        return False


def orphans() -> set[Path]:
    """Return the pixel folders whose owner is gone; those of tests beside this one have theirs."""
    found = set()
    for path in Path("/dev/shm").glob("vlm-pixels-*"):
        try:
            lock = os.open(path / "owner.lock", os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found.add(path)
        except OSError:
            pass
        finally:
            os.close(lock)
    return found


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left(end: str, tiny_model: Path, tmp_path: Path, ours: dict[str, str]) -> None:
    before = orphans()
    script = tmp_path / "script.py"
    script.write_text(HEAD + ENDS[end] + TAIL)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", script, tiny_model], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=ours,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("engine "):
        pytest.fail(process.communicate()[1])
    engine = int(line.split()[1])
    if end == "interrupted":
        assert process.stdout.readline() == "asking\n"
        time.sleep(0.4)
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == (3 if end == "left in a stream" else 0), err
    assert "Traceback" not in err
    assert (end == "interrupted") == ("interrupted" in out)
    deadline = time.monotonic() + 5
    while is_running(engine) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(engine)
    assert list(tmp_path.glob("vlm-*")) == []
    assert orphans() - before == set()
