"""Passes of an encoder out of graphs against passes launch by launch."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from emulated_gpu import EmulatedGpu
from paged_attention import relative_error
from repeater import Repeater
from tiny_engine import SPEC, picture

from engines.ops import Ops
from engines.pytorch.ops_torch import TorchOps
from engines.spec import ModelSpec
from engines.turbomind.ops_table import TurbomindOps
from engines.turbomind.pass_graphs import PassGraphs, pass_sizes
from engines.turbomind.recorder import CudaRecorder, Recorder
from engines.vision.towers.intern_vit_spec import InternVitSpec
from engines.vision.vlm import Vlm
from engines.weights.load import random_network

if TYPE_CHECKING:
    from engines.vision.parts import EncodePass

CPU = torch.device("cpu")


def network() -> Vlm:
    return random_vlm(SPEC, TorchOps(), CPU, torch.float32)


def random_vlm(spec: ModelSpec, ops: Ops, device: torch.device, dtype: torch.dtype) -> Vlm:
    made = random_network(spec, ops=ops, device=device, dtype=dtype, seed=0)
    assert isinstance(made, Vlm)
    return made


def recorded(
    made: Vlm, *, max_tiles: int, device: torch.device = CPU, recorder: Recorder | None = None
) -> PassGraphs:
    graphs: list[PassGraphs] = []
    recorder = recorder or Repeater()

    def record(encode: "EncodePass", tile_shape: tuple[int, ...], picture_tiles: int) -> "EncodePass":
        sizes = pass_sizes(max_tiles, picture_tiles=picture_tiles)
        graphs.append(
            PassGraphs(encode, tile_shape=tile_shape, sizes=sizes, device=device, recorder=recorder)
        )
        graphs[0].capture()
        return graphs[0]

    made.record_passes(record)
    return graphs[0]


@torch.inference_mode()
@pytest.mark.parametrize("max_tiles", [1, 3, 4])
def test_replayed_passes_give_what_launched_ones_give(max_tiles: int) -> None:
    """Passes of every size one after the other: what a larger one left behind shows nowhere."""
    plain, made = network(), network()
    graphs = recorded(made, max_tiles=max_tiles)
    for counts in ([4], [1], [2, 1], [3], [1, 1, 1, 1]):
        images = [picture(10 * len(counts) + i, count) for i, count in enumerate(counts)]
        wanted = plain.encode_images(images, max_tiles=max_tiles)
        found = made.encode_images(images, max_tiles=max_tiles)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert graphs.replays == sum(-(-n // max_tiles) for n in (4, 1, 3, 3, 4))


@torch.inference_mode()
def test_passes_of_kernels_are_replayed_as_they_are_launched(gpu) -> None:
    """Passes behind each other, as pictures come: the same bits each time, nearly those of a pass apart."""
    vision = SPEC.vision
    assert vision is not None
    tower = vision.towers[0]
    assert isinstance(tower, InternVitSpec)
    wide = replace(tower, hidden=64, num_heads=2, ffn=128)  # heads that kernels take
    spec = replace(SPEC, vision=replace(vision, towers=(wide,)))
    plain, made = (random_vlm(spec, TurbomindOps(gpu), gpu.device, torch.bfloat16) for _ in range(2))
    recorder = Repeater() if isinstance(gpu, EmulatedGpu) else CudaRecorder()
    graphs = recorded(made, max_tiles=4, device=gpu.device, recorder=recorder)
    passes = [[picture(number, count)] for number, count in enumerate((4, 1, 3, 2))]
    first = [made.encode_images(images, max_tiles=4)[0] for images in passes]
    again = [made.encode_images(images, max_tiles=4)[0] for images in passes]
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    for images, rows in zip(passes, first, strict=True):
        (wanted,) = plain.encode_images(images, max_tiles=4)
        assert relative_error(rows, wanted) < 1e-2
    assert graphs.replays == 2 * len(passes)


@torch.inference_mode()
def test_more_tiles_than_were_captured_are_launched_and_numbers_are_taken_as_they_are() -> None:
    made = network()
    graphs = recorded(made, max_tiles=2)
    made.encode_images([picture(1, 4)], max_tiles=4)
    side = np.zeros((1, *picture(1, 1).arrays[0].shape[1:]), dtype=np.float32)
    graphs(torch.from_numpy(side))
    assert graphs.replays == 0


def test_the_sizes_end_at_the_largest_pass_and_waste_little() -> None:
    assert pass_sizes(1, picture_tiles=1) == [1]
    assert pass_sizes(16, picture_tiles=1) == [1, 2, 4, 6, 8, 10, 12, 14, 16]
    assert pass_sizes(13, picture_tiles=1)[-2:] == [12, 13]
    for num in range(4, 33):
        size = next(size for size in pass_sizes(32, picture_tiles=1) if size >= num)
        assert 6 * (size - num) <= size


@pytest.mark.parametrize(("max_tiles", "picture_tiles", "last"), [(16, 13, 13), (8, 13, 5), (8, 16, 8)])
def test_the_last_pass_of_the_largest_picture_has_a_size_of_its_own(
    max_tiles: int, picture_tiles: int, last: int
) -> None:
    assert last in pass_sizes(max_tiles, picture_tiles=picture_tiles)
