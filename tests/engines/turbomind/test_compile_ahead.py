"""Kernels are compiled before an engine serves, once, and no request compiles any."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from loop_engine import LoopEngine
from tiny_engine import IMAGE_ID, SPEC, options

from engines.errors import KernelError
from engines.ipc.pixel_files import PixelFiles
from engines.network_loaders import load_random
from engines.pytorch.ops_torch import TorchOps
from engines.turbomind import compile_ahead as compile_ahead_module
from engines.turbomind import cubins as cubins_module
from engines.turbomind.compile_ahead import compile_ahead, compile_all, compile_asked, worker_count
from engines.turbomind.cubin_cache import CubinCache
from engines.turbomind.cubins import Cubins, Module
from engines.weights.load import random_network

NORMS: list[Module] = [
    ("norm.cu", (("SCALAR", "bf16"), ("HIDDEN", hidden), ("THREADS", 32))) for hidden in (256, 512)
]


class Start:
    """One start of a deployment that needs two norms; notes whether it had to ask."""

    def __init__(self, folder: Path, follows_from: str, *, num_workers: int = 1) -> None:
        self.asked = False
        self.cubins = Cubins("sm_90a", CubinCache(folder))
        compile_asked(self.cubins, self._ask, num_workers=num_workers, follows_from=follows_from)

    def _ask(self, wanted: Callable[[Module], None]) -> None:
        self.asked = True
        for module in NORMS:
            wanted(module)


def test_what_a_deployment_needs_is_asked_and_compiled_once(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="the extra `cuda` is not installed")
    first, second, other = (Start(tmp_path, "one"), Start(tmp_path, "one"), Start(tmp_path, "another"))
    assert [(start.asked, start.cubins.compiled) for start in (first, second, other)] == [
        (True, 2),
        (False, 0),
        (True, 0),
    ]
    next(path for path in tmp_path.iterdir() if path.suffix == ".cubin").unlink()
    again = Start(tmp_path, "one")
    assert (again.asked, again.cubins.compiled) == (True, 1)


def test_a_list_of_modules_is_compiled_and_one_that_does_not_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="the extra `cuda` is not installed")
    cubins = Cubins("sm_90a", CubinCache(tmp_path))
    compile_all(cubins, NORMS)
    assert all(cubins.has(module) for module in NORMS)
    with pytest.raises(KernelError, match=r"kernel `norm\.cu` does not compile"):
        compile_all(cubins, [("norm.cu", (("SCALAR", "bf16"),))])


def test_a_kernel_that_is_compiled_when_it_is_asked_for_stands_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="the extra `cuda` is not installed")
    cubins = Cubins("sm_90a", CubinCache(tmp_path))
    with caplog.at_level("INFO", "engines.turbomind.cubins"):
        cubins.get(NORMS[0])
        cubins.get(NORMS[0])
    (line,) = [record.message for record in caplog.records]
    assert line.startswith("kernel norm.cu compiled in ")
    assert line.endswith(" s when it was first asked for, with SCALAR=bf16 HIDDEN=256 THREADS=32")


def test_processes_compile_what_this_one_then_finds_and_leave_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="the extra `cuda` is not installed")
    start = Start(tmp_path, "one", num_workers=2)
    assert start.asked and start.cubins.compiled == 0
    assert all(start.cubins.has(module) for module in NORMS)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".cubin", ".cubin", ".names"]
    (tmp_path / "file").write_text("")
    unwritable = Start(tmp_path / "file" / "cubins", "one", num_workers=2)
    assert unwritable.cubins.compiled == 2, "what cannot be kept is compiled here, once"
    assert [unwritable.cubins.get(module) for module in NORMS] and unwritable.cubins.compiled == 2


@pytest.mark.parametrize(("num_cpus", "ranks", "count"), [(2, 1, 2), (2, 4, 1), (32, 1, 16), (32, 4, 8)])
def test_ranks_share_the_processors_and_few_processes_are_enough(
    num_cpus: int, ranks: int, count: int
) -> None:
    assert worker_count(num_cpus, ranks=ranks) == count


def test_a_module_that_does_not_compile_is_told_by_who_needs_it(tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="the extra `cuda` is not installed")

    def ask(wanted: Callable[[Module], None]) -> None:
        wanted(("norm.cu", (("SCALAR", "bf16"),)))

    with pytest.raises(KernelError, match=r"norm\.cu needs -D"):
        compile_asked(Cubins("sm_90a", CubinCache(tmp_path)), ask, num_workers=2, follows_from="")


def test_a_model_that_cannot_be_walked_through_starts_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="the extra `cuda` is not installed")

    def ask(wanted: Callable[[Module], None]) -> None:
        wanted(NORMS[0])
        torch.empty(1, device="meta").item()

    for _ in range(2):  # what is not known whole is not kept
        caplog.clear()
        cubins = Cubins("sm_90a", CubinCache(tmp_path))
        compile_asked(cubins, ask, num_workers=1, follows_from="")
        assert "some kernels of this model will be compiled when they are first used" in caplog.text


def test_weights_with_a_copy_in_12_bits_are_asked_about_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(
        compile_ahead_module, "compile_asked", lambda cubins, ask, **how: told.append(how["follows_from"])
    )
    spec = replace(SPEC, vision=None, decoder=replace(SPEC.decoder, hidden=128, ffn=256, head_dim=32))
    gpu: Any = SimpleNamespace(num_sms=10, shared_bytes_per_block=1, shared_bytes_per_sm=1, cubins=None)
    for layers in (["decoder.layers.0.o"], ["decoder.layers.0.o"], []):
        network = random_network(
            spec,
            ops=TorchOps(),
            device=torch.device("cpu"),
            dtype=torch.bfloat16,
            seed=0,
            copied_layers=layers,
        )
        compile_ahead(gpu, network, options(), dtype=torch.bfloat16)
    assert told[0] == told[1] != told[2]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize(("kv", "bf12"), [("none", 0.0), ("int8", 0.0), ("none", 0.5)])
def test_no_request_of_a_first_start_compiles_a_kernel(
    kv: Any, bf12: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    real = cubins_module.compile_cubin

    def noting(source: Any, **how: Any) -> Any:
        compiled.append(f"{source.name} {how['constants']}")
        return real(source, **how)

    monkeypatch.setattr(cubins_module, "compile_cubin", noting)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    decoder = replace(
        SPEC.decoder, hidden=1024, num_heads=16, num_kv_heads=8, head_dim=64, ffn=2816, max_positions=4096
    )
    pixels = PixelFiles()
    try:
        engine = LoopEngine(
            pixels, spec=replace(SPEC, decoder=decoder), load=load_random, kind="turbomind", device="cuda",
            dtype="bfloat16", decode_weights=bf12, format=kv, page_tokens=16, num_pages=2048,
            max_batch_size=48, max_prefill_token_num=1500, session_len=2048,
        )  # fmt: skip
        there = sorted(tmp_path.rglob("*.cubin"))
        assert there, "a first start compiles"
        compiled.clear()  # a process on each processor has compiled the others
        ways: tuple[dict[str, Any], ...] = (
            {},
            {"temperature": 0.8, "top_k": 40, "top_p": 0.8, "min_p": 0.05},
            {"repetition_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.1},
            {"temperature": 1.0, "logprobs": 5},
            {"grammar": "start: /[a-z]{5}/"},
            {"bad_sequences": ((3,), (4, 5)), "logit_bias": {7: 2.0}},
        )
        draw = random.Random(0)
        for burst in (1, 3, 20, 48):
            for i in range(burst):
                tokens = [draw.randrange(80) for _ in range(draw.choice((1, 7, 40, 130, 700, 1900)))]
                shared = [1] * 64 if i % 3 == 0 else []  # a prefix that the cache has
                pictures = [(len(shared), i)] if i % 5 == 0 else []
                prompt = [*shared, *[IMAGE_ID] * 4 * len(pictures), *tokens]
                engine.submit(prompt, pictures=pictures, max_new_tokens=6, seed=i, **ways[i % len(ways)])
            engine.run()
        assert compiled == [] and sorted(tmp_path.rglob("*.cubin")) == there
    finally:
        pixels.close()
