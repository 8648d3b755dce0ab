"""LoRA adapters held to checkpoints in which they are merged: the same tokens, alone and side by side."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lora import ALPHA, RANK, adapter_specs, merged, pairs, write_adapter
from printable import PRINTABLE
from safetensors.torch import load_file, save_file
from sequences import sampling
from tiny_checkpoint import write_tiny_checkpoint
from tiny_engine import SPEC, options

from engines.decoder.llama_like_parameters import parameters as decoder_parameters
from engines.errors import CheckpointError
from engines.families import read_spec
from engines.families.decoders.llama import LLAMA_RULES
from engines.ipc.client import EngineClient
from engines.loading import load_engine
from engines.messages import Delta, Failed, Start, Submit
from engines.pytorch.ops_torch import TorchOps
from engines.spec import AdapterSpec, ModelSpec
from engines.steps.engine_loop import EngineLoop
from engines.weights import load
from engines.weights.adapter import load_adapters
from engines.weights.rules import NameRules

LAYERS = ("attention.wqkv", "attention.wo", "feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
PROMPT = tuple(range(5, 45))


def base_names(kinds: Sequence[str] = LAYERS) -> list[str]:
    return [f"language_model.model.layers.{layer}.{kind}" for layer in (0, 1) for kind in kinds]


def spec_of(folder: Path, adapters: Mapping[str, Path]) -> ModelSpec:
    spec = read_spec(json.loads((folder / "config.json").read_text()), origin="test", folder=folder)
    return replace(spec, adapters=adapter_specs(adapters))


class Served:
    """An engine on a folder, asked greedily; all requests are in one batch."""

    def __init__(self, folder: Path, adapters: Mapping[str, Path] | None = None) -> None:
        spec = spec_of(folder, adapters or {})
        start = Start(folder=str(folder), spec=spec, options=options(), vocabulary=PRINTABLE)
        self.loop: EngineLoop = load_engine(start, on_phase=lambda _: None)[0]

    def ask(self, *adapters: str | None) -> list[list[int]]:
        tokens: dict[str, list[int]] = {str(number): [] for number in range(len(adapters))}
        for name, adapter in zip(tokens, adapters, strict=True):
            request = Submit(
                request_id=name, token_ids=PROMPT, images=(), priority=0, adapter=adapter,
                sampling=sampling(max_new_tokens=12, temperature=0.0, ignore_eos=True),
            )  # fmt: skip
            assert self.loop.submit(request) == []
        while self.loop.has_work:
            for reply in self.loop.step():
                assert not isinstance(reply, Failed), reply
                if isinstance(reply, Delta):
                    tokens[reply.request_id] += reply.token_ids
        return list(tokens.values())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the bare checkpoint, two adapters, and the checkpoints in which each is merged."""
    root = tmp_path_factory.mktemp("adapters")
    found = {"bare": write_tiny_checkpoint(root / "bare")}
    weights = load_file(found["bare"] / "model.safetensors")
    for seed, (name, kinds) in enumerate({"one": LAYERS, "two": LAYERS[:1]}.items()):
        lora = pairs(weights, base_names(kinds), seed)
        found[name] = write_adapter(root / name, lora)
        found[f"{name}-merged"] = write_tiny_checkpoint(root / f"{name}-merged")
        save_file(merged(weights, lora), found[f"{name}-merged"] / "model.safetensors")
    return found


def test_rows_of_a_batch_run_each_through_its_own_adapter(folders: dict[str, Path]) -> None:
    (bare,), (one,), (two,) = (Served(folders[f]).ask(None) for f in ("bare", "one-merged", "two-merged"))
    assert len({tuple(bare), tuple(one), tuple(two)}) == 3
    served = Served(folders["bare"], {"one": folders["one"], "two": folders["two"]})
    assert served.ask("one", None, "two", "one") == [one, bare, two, one]


def test_the_prefix_cache_keeps_adapters_apart(folders: dict[str, Path]) -> None:
    served = Served(folders["bare"], {"one": folders["one"]})
    (bare,), (one,) = served.ask(None), served.ask("one")
    assert bare != one
    cached = served.loop.stats().cached_tokens
    assert cached == 0, "the same prompt through another adapter has other keys and values"
    assert served.ask("one") == [one] and served.ask(None) == [bare]
    assert served.loop.stats().cached_tokens > 0


async def test_two_ranks_give_the_tokens_of_one(folders: dict[str, Path]) -> None:
    adapters = {name: folders[name] for name in ("one", "two")}
    alone = Served(folders["bare"], adapters).ask("one", None, "two")
    engine = EngineClient(
        folders["bare"],
        spec_of(folders["bare"], adapters),
        options(tp=2),
        start_timeout_s=120,
        max_restarts=0,
    )
    await engine.start()
    try:
        together = []
        for adapter in ("one", None, "two"):
            request = Submit(
                request_id=str(adapter), token_ids=PROMPT, images=(), priority=0, adapter=adapter,
                sampling=sampling(max_new_tokens=12, ignore_eos=True),
            )  # fmt: skip
            replies = [reply async for reply in engine.submit(request)]
            together.append(
                [token for reply in replies if isinstance(reply, Delta) for token in reply.token_ids]
            )
    finally:
        await engine.close()
    assert together == alone


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_each_rank_adds_what_it_would_have_of_the_merged_weights(
    tp: int, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four ranks two share each of the two KV heads."""
    monkeypatch.setattr(load, "Vlm", lambda spec, tensors, **_: tensors)

    def tensors(folder: str, rank: int, **adapters: Path) -> Any:
        return load.load_network(
            folders[folder], spec_of(folders[folder], adapters), ops=TorchOps(), rank=rank, tp=tp,
            device=torch.device("cpu"), dtype=torch.float32,
        )  # fmt: skip

    for rank in range(tp):
        bare, wanted = tensors("bare", rank, one=folders["one"]), tensors("one-merged", rank)
        for layer in (
            f"decoder.layers.{i}.{kind}" for i in (0, 1) for kind in ("qkv", "o", "gate_up", "down")
        ):
            added = bare[f"{layer}.adapters.b"] @ bare[f"{layer}.adapters.a"]
            torch.testing.assert_close(bare[f"{layer}.weight"] + added, wanted[f"{layer}.weight"])


def test_an_adapter_that_is_not_loaded_fails_alone(folders: dict[str, Path]) -> None:
    served = Served(folders["bare"], {"one": folders["one"]})
    request = Submit(
        request_id="a", token_ids=PROMPT, images=(), priority=0, adapter="three", sampling=sampling()
    )
    (failed,) = served.loop.submit(request)
    assert isinstance(failed, Failed) and "adapter `three` is not loaded" in failed.message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"use_dora": True}, "`use_dora`: True: only plain LoRA is served"),
        ({"peft_type": "IA3"}, "`peft_type`: 'IA3'"),
        ({"modules_to_save": ["lm_head"]}, "`modules_to_save`"),
        ({"init_lora_weights": "pissa_niter_16"}, "`init_lora_weights`: 'pissa_niter_16'"),
        ({"alora_invocation_tokens": [1, 2]}, "`alora_invocation_tokens`"),
        ({"r": None}, "is no config of a LoRA adapter"),
    ],
)
def test_another_adapter_than_plain_lora_is_refused(
    folders: dict[str, Path], tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    tensors = load_file(folders["two"] / "adapter_model.safetensors")
    adapter = write_adapter(tmp_path / "a", tensors, **changes)
    with pytest.raises(CheckpointError, match=words):
        Served(folders["bare"], {"one": adapter})


def test_everything_that_does_not_fit_is_in_one_message(folders: dict[str, Path], tmp_path: Path) -> None:
    good = "base_model.model.language_model.model.layers.0.attention.wqkv.lora_"
    tensors = {
        f"{good}A.weight": torch.zeros(RANK, 7),
        f"{good}B.weight": torch.zeros(64, RANK),
        "base_model.model.language_model.output.lora_A.weight": torch.zeros(RANK, 32),
        "base_model.model.elsewhere.lora_A.weight": torch.zeros(RANK, 32),
        "base_model.model.odd.weight": torch.zeros(1),
    }
    with pytest.raises(CheckpointError) as caught:
        Served(folders["bare"], {"one": write_adapter(tmp_path / "a", tensors)})
    said = str(caught.value)
    for words in (
        "A [4, 7] and B [64, 4]: must be [4, 32] and [64, 4], `r` as adapter_config.json has it",
        "`language_model.output`: no linear layer",
        "`elsewhere`: no linear layer",
        "`base_model.model.odd.weight`: no LoRA matrix",
    ):
        assert words in said


def test_matrices_of_another_rank_than_the_config_says_are_refused(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """What they add is scaled by it."""
    tensors = load_file(folders["two"] / "adapter_model.safetensors")
    adapter = write_adapter(tmp_path / "a", tensors, r=2 * RANK)
    with pytest.raises(CheckpointError, match=r"A \[4, 32\] and .*: must be \[8, 32\]"):
        Served(folders["bare"], {"one": adapter})


def test_layers_that_are_fused_here_get_one_pair_that_adds_the_same(tmp_path: Path) -> None:
    """Llama's q, k and v are three tensors of a checkpoint and one of ours; k has no adapter."""
    generator = torch.Generator().manual_seed(0)
    names = [f"model.layers.1.self_attn.{block}_proj" for block in ("q", "v")]
    shapes = {names[0]: 32, names[1]: 16}
    weights = {f"{name}.weight": torch.zeros(rows, 32) for name, rows in shapes.items()}
    lora = pairs(weights, names, seed=3)
    adapter = AdapterSpec(name="one", folder=str(write_adapter(tmp_path / "a", lora)))
    found = load_adapters(
        [adapter], NameRules(rules=LLAMA_RULES), list(decoder_parameters(SPEC.decoder)),
        dtype=torch.float32, device=torch.device("cpu"),
    )  # fmt: skip
    a, b = (found[f"decoder.layers.1.qkv.adapters.{which}"] for which in "ab")
    x = torch.randn(5, 32, generator=generator)
    deltas = [
        x
        @ lora[f"base_model.model.{name}.lora_A.weight"].T
        @ lora[f"base_model.model.{name}.lora_B.weight"].T
        for name in names
    ]
    wanted = torch.cat([deltas[0], torch.zeros(5, 16), deltas[1]], dim=1) * ALPHA / RANK
    torch.testing.assert_close(x @ a.T @ b.T, wanted)
