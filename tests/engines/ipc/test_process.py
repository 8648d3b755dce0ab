import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from golden_request import golden_request
from internvl_golden import golden
from printable import PRINTABLE
from tiny_engine import OPTIONS, SPEC, ask, client, options, submit, wait_until

from engines.errors import DeviceError
from engines.ipc.client import EngineClient
from engines.ipc.process import _num_threads
from engines.messages import Done, LogLevel

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from engines.ipc.process import main
sys.exit(main())
"""


LEAVING = """
import atexit, sys
import torch.distributed as dist
from engines.ipc.process import leave
atexit.register(print, "taken apart")
if len(sys.argv) > 1:
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
print("said before")
leave(7)
"""


def test_a_process_whose_ranks_have_met_ends_before_python_takes_it_apart(tmp_path: Path) -> None:
    """What watches over NCCL would end it by a signal meanwhile."""
    for words, said in (([], "said before\ntaken apart\n"), ([tmp_path / "meet"], "said before\n")):
        ended = subprocess.run([sys.executable, "-c", LEAVING, *words], capture_output=True, text=True)
        assert (ended.returncode, ended.stdout) == (7, said), ended.stderr


async def test_a_checkpoint_gives_upstreams_greedy_tokens_through_the_process(
    internvl_folder: Callable[[str], Path],
) -> None:
    reference = golden("internlm2_vit300m")
    how = options(page_tokens=16, num_pages=64, max_prefill_token_num=13)
    engine = EngineClient(
        internvl_folder("internlm2_vit300m"), reference.spec, how, start_timeout_s=120, max_restarts=0
    )
    await engine.start()
    try:
        for _ in range(2):  # the second time from the prefix cache
            request, expected = golden_request(engine, reference)
            tokens, end = await ask(engine, request)
            assert tokens == expected
        assert isinstance(end, Done) and end.usage.cached_tokens == (len(request.token_ids) - 1) // 16 * 16
        assert engine.stats is not None
    finally:
        await engine.close()


async def test_the_start_is_timed_and_stats_arrive_with_each_change_of_who_runs_and_while_nothing_happens(
    capfd: pytest.CaptureFixture[str],
) -> None:
    engine = client()
    await engine.start()
    try:
        assert engine.ready is not None
        phases = ["import", "device", "weights", "rehearsal", "kv_cache"]
        assert list(engine.ready.phase_s) == phases
        assert "engine INFO" not in capfd.readouterr().err, (
            "without a level only warnings and errors are said"
        )
        await asyncio.gather(*(ask(engine, submit(engine, [1, n], max_new_tokens=3)) for n in range(4)))
        await wait_until(lambda: engine.stats is not None and engine.stats.num_running == 0, timeout_s=0.5)
        assert engine.stats is not None and engine.stats.output_tokens == 12
        first = engine.stats
        await wait_until(lambda: engine.stats is not first, timeout_s=5)
    finally:
        await engine.close()


async def test_grammars_are_prepared_when_the_engine_has_nothing_to_do(
    capfd: pytest.CaptureFixture[str],
) -> None:
    engine = client(vocabulary=PRINTABLE, log_level="debug")
    await engine.start()
    try:
        said = capfd.readouterr().err
        assert "ready on cpu" in said and "grammars" not in said, "a start does not wait for them"
        heard = ""

        def prepared() -> bool:
            nonlocal heard
            heard += capfd.readouterr().err
            return "DEBUG ready for grammars: that took" in heard

        await wait_until(prepared)
        assert "WARNING" not in heard
    finally:
        await engine.close()


@pytest.mark.parametrize(("level", "is_told"), [("info", True), ("warning", False)])
async def test_an_engine_says_what_its_level_lets_it(
    level: LogLevel, is_told: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = client(log_level=level)
    await engine.start()
    try:
        assert ("engine INFO ready on cpu" in capfd.readouterr().err) is is_told
    finally:
        await engine.close()


async def test_a_missing_torch_is_told_with_the_way_out() -> None:
    engine = EngineClient(
        Path("x"),
        SPEC,
        OPTIONS,
        start_timeout_s=60,
        max_restarts=0,
        command=(sys.executable, "-c", WITHOUT_TORCH),
    )
    with pytest.raises(DeviceError, match=r"`torch` is not installed.*pip install 'vlm-deployer\[engine\]'"):
        await engine.start()


def test_the_environment_decides_on_threads_where_it_says_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert _num_threads("cpu") == _num_threads("cuda") == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(16)))
    assert (_num_threads("cpu"), _num_threads("cuda")) == (15, 4)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    assert _num_threads("cpu") == 1
