import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from internvl_golden import CASES, golden, weights, write_checkpoint
from paged_steps import Run, empty_pages, run_step
from safetensors.torch import save_file
from thread_ranks import Meeting, ThreadGroup, in_threads
from torch import Tensor

from engines.errors import CheckpointError
from engines.network import Network
from engines.pytorch.ops_torch import TorchOps
from engines.spec import ModelSpec
from engines.vision.parts import ImagePixels
from engines.weights import load
from engines.weights.load import load_network, random_network

CPU = torch.device("cpu")
Folder = Callable[[str], Path]


def network(
    folder: Path, spec: ModelSpec, *, dtype: torch.dtype = torch.float32, rank: int = 0, tp: int = 1
) -> Network:
    return load_network(folder, spec, ops=TorchOps(), device=CPU, dtype=dtype, rank=rank, tp=tp)


def last_logits(net: Network, *, dtype: torch.dtype = torch.float32, tp: int = 1) -> Tensor:
    """Return the logits after a fixed prompt, the vision tower's rows in the middle of it."""
    decoder = net.spec.decoder
    assert net.spec.vision is not None
    plan = net.spec.vision.pixels.plan(64, 64)
    (shape,) = net.spec.vision.pixels.shapes(plan)
    tiles = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    (rows,) = net.encode_images([ImagePixels(arrays=(tiles,), plan=plan)], max_tiles=1)
    run = Run(token_ids=[5, 7, *[1] * len(rows), 8, 9], pages=[2, 0, 1], features=rows, image_id=1)
    local = replace(decoder, num_kv_heads=max(decoder.num_kv_heads // tp, 1))
    kv = empty_pages(local, num_pages=3, page_tokens=16, dtype=dtype)
    return run_step(net, kv, [(run, run.num_prompt)])[0][-1]


@pytest.mark.parametrize("container", ["sharded", "bin"])
def test_shards_and_bin_files_load_to_the_same_network(
    container: str, internvl_folder: Folder, tmp_path: Path
) -> None:
    spec, tensors = golden("llama3_vit6b").spec, weights("llama3_vit6b")
    if container == "bin":
        torch.save(tensors, tmp_path / "pytorch_model.bin")
    else:
        weight_map = {name: f"model-{i % 3}.safetensors" for i, name in enumerate(tensors)}
        for shard in sorted(set(weight_map.values())):
            save_file({n: t for n, t in tensors.items() if weight_map[n] == shard}, tmp_path / shard)
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    wanted = last_logits(network(internvl_folder("llama3_vit6b"), spec))
    assert torch.equal(last_logits(network(tmp_path, spec)), wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_converted_to_the_dtype_asked_for(dtype: torch.dtype, internvl_folder: Folder) -> None:
    spec = golden("qwen2").spec
    wide = last_logits(network(internvl_folder("qwen2"), spec))
    narrow = last_logits(network(internvl_folder("qwen2"), spec, dtype=dtype), dtype=dtype)
    assert narrow.dtype == torch.float32
    assert 0 < (narrow - wide).norm() / wide.norm() < 0.05


def test_an_untied_head_is_used_though_the_config_says_tied(internvl_folder: Folder) -> None:
    spec = golden("qwen2").spec
    tied = replace(spec, decoder=replace(spec.decoder, tied_head=True))
    folder = internvl_folder("qwen2")
    assert torch.equal(last_logits(network(folder, tied)), last_logits(network(folder, spec)))


def test_a_tied_head_is_the_embedding_where_the_checkpoint_has_no_other(tmp_path: Path) -> None:
    spec, tensors = golden("qwen2").spec, weights("qwen2")
    tied = replace(spec, decoder=replace(spec.decoder, tied_head=True))
    del tensors["language_model.lm_head.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    own = tmp_path / "own"
    own.mkdir()
    copy = tensors["language_model.model.embed_tokens.weight"].clone()
    save_file(tensors | {"language_model.lm_head.weight": copy}, own / "model.safetensors")
    assert torch.equal(last_logits(network(tmp_path, tied)), last_logits(network(own, spec)))


def test_progress_ends_at_its_total(internvl_folder: Folder) -> None:
    spec, seen = golden("qwen2").spec, []
    load_network(
        internvl_folder("qwen2"),
        spec,
        ops=TorchOps(),
        device=CPU,
        dtype=torch.float32,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] == sum(tensor.numel() for tensor in weights("qwen2").values())


def test_integer_tensors_are_refused(tmp_path: Path) -> None:
    tensors = weights("qwen2")
    tensors["mlp1.3.bias"] = tensors["mlp1.3.bias"].to(torch.int8)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"tensor `mlp1\.3\.bias` .* is torch\.int8: must be floating"):
        network(tmp_path, golden("qwen2").spec)


def test_a_checkpoint_of_another_size_is_refused_in_one_message(internvl_folder: Folder) -> None:
    spec = golden("internlm2_vit300m").spec
    wider = replace(spec, decoder=replace(spec.decoder, ffn=spec.decoder.ffn + 16))
    with pytest.raises(CheckpointError, match="of another shape"):
        network(internvl_folder("internlm2_vit300m"), wider)


@pytest.mark.parametrize(
    ("case", "tp"),
    [("internlm2_vit300m", 2), ("internlm2_vit300m", 4), ("phi3_long", 4), ("llama3_vit6b", 8)],
)
def test_ranks_together_compute_what_one_does(
    case: str, tp: int, internvl_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 2 KV heads and tp=4, and 1 KV head and tp=8, ranks share a KV head."""
    folder, spec, meeting = internvl_folder(case), golden(case).spec, Meeting(tp)
    wanted = last_logits(network(folder, spec))
    monkeypatch.setattr(load, "TpGroup", lambda *, rank, size: ThreadGroup(rank, size, meeting))
    ranks = [network(folder, spec, rank=rank, tp=tp) for rank in range(tp)]
    for logits in in_threads(tp, lambda rank: last_logits(ranks[rank], tp=tp)):
        torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=0)


def test_a_tied_head_is_split_over_ranks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, tensors, meeting = golden("internlm2_vit300m").spec, weights("internlm2_vit300m"), Meeting(2)
    tied = replace(spec, decoder=replace(spec.decoder, tied_head=True))
    del tensors["language_model.output.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    wanted = last_logits(network(tmp_path, tied))
    monkeypatch.setattr(load, "TpGroup", lambda *, rank, size: ThreadGroup(rank, size, meeting))
    ranks = [network(tmp_path, tied, rank=rank, tp=2) for rank in range(2)]
    for logits in in_threads(2, lambda rank: last_logits(ranks[rank], tp=2)):
        torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=0)


def test_a_group_that_does_not_divide_the_heads_is_refused(internvl_folder: Folder) -> None:
    with pytest.raises(CheckpointError, match="tp=2: must divide the 7 units of `q`"):
        network(internvl_folder("qwen2"), golden("qwen2").spec, tp=2)


@pytest.mark.parametrize("case", CASES)
def test_a_random_network_runs_and_follows_its_seed(case: str) -> None:
    spec = golden(case).spec
    nets = [
        random_network(spec, ops=TorchOps(), device=CPU, dtype=torch.float32, seed=seed) for seed in (1, 1, 2)
    ]
    first, again, other = (last_logits(net) for net in nets)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
    assert first.isfinite().all() and 0.1 < first.std() < 10


def test_a_checkpoint_folder_may_be_given_as_written(tmp_path: Path) -> None:
    folder = write_checkpoint("qwen2", tmp_path / "model")
    assert network(folder, golden("qwen2").spec).spec == golden("qwen2").spec


def test_weights_load_inside_inference_mode_too(internvl_folder: Folder) -> None:
    spec = golden("llama3_vit6b").spec
    with torch.inference_mode():
        loaded = network(internvl_folder("llama3_vit6b"), spec)
        assert torch.equal(last_logits(loaded), last_logits(network(internvl_folder("llama3_vit6b"), spec)))
