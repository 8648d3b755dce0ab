"""`deploy target=ray_serve` where it cannot run: no Ray, no GPUs."""

import os
import signal
import threading
from importlib.util import find_spec

import pytest

from deployer.cli import main
from deployer.config import load_config
from deployer.config.targets import RayServeTarget
from deployer.errors import UnavailableError
from deployer.ray_serve.run import on_device, refuse_small_cluster, wait_for_signal


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_the_way_out_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["+model=pocket_vl", "target=ray_serve"]) == 6
    assert "Ray is not installed here; pip install 'vlm-deployer[ray]'" in capsys.readouterr().err


def test_a_cluster_without_gpus_is_refused() -> None:
    config = load_config(
        [
            "+model=internvl2_8b",
            "engine=turbomind",
            "engine.tp=2",
            "target=ray_serve",
            "target.max_replicas=3",
        ]
    )
    assert isinstance(config.target, RayServeTarget)
    with pytest.raises(
        UnavailableError, match=r"lacks what target.min_replicas=1 with engine.tp=2 takes: 2 GPU"
    ):
        refuse_small_cluster(config, config.target, {"CPU": 64.0, "memory": 1e12})
    refuse_small_cluster(config, config.target, {"CPU": 64.0, "GPU": 2.0})


def test_replicas_reserve_the_gpus_that_a_cluster_has() -> None:
    config = load_config(["+model=pocket_vl", "target=ray_serve"])
    assert on_device(config, {"CPU": 8.0, "GPU": 4.0}).engine.device_type == "cuda"
    assert on_device(config, {"CPU": 8.0}).engine.device_type == "cpu"
    chosen = load_config(["+model=pocket_vl", "target=ray_serve", "engine.device_type=cpu"])
    assert on_device(chosen, {"CPU": 8.0, "GPU": 4.0}) == chosen


def test_a_terminal_that_closes_ends_it_too() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run behind nohup

    def hang_up() -> None:
        while signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
            pass
        os.kill(os.getpid(), signal.SIGHUP)

    terminal = threading.Thread(target=hang_up)
    terminal.start()
    try:
        assert wait_for_signal() == signal.SIGHUP
    finally:
        terminal.join()
        for number, handler in before.items():
            signal.signal(number, handler)
