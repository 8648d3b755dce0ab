from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from internvl_golden import golden
from torch import Tensor

from engines.ops import BytePixels
from engines.pytorch.ops_torch import TorchOps
from engines.spec import ModelSpec
from engines.vision.assembly.tiles import Tiles
from engines.vision.parts import ImagePixels, ImagePlan
from engines.vision.towers.intern_vit import InternVit
from engines.vision.towers.intern_vit_spec import InternVitSpec
from engines.vision.vlm import Vlm
from engines.weights.load import random_network
from engines.weights.parameters import parameters

OPS = TorchOps()


def random_params(spec: ModelSpec) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        parameter.name: torch.randn(parameter.shape, generator=generator) * 0.1
        for parameter in parameters(spec)
        if parameter.name.startswith("vision.")
    }


def image_of(tiles: Tensor) -> ImagePixels:
    plan = ImagePlan(width=84, height=84, grid=(len(tiles), 1), num_tiles=len(tiles))
    return ImagePixels(arrays=(tiles.numpy(),), plan=plan)


def tower(
    spec: ModelSpec, params: dict[str, Tensor], *, image: int = 84, select_layer: int = -1
) -> InternVit:
    assert spec.vision is not None
    vit = spec.vision.towers[0]
    assert isinstance(vit, InternVitSpec)
    return InternVit(replace(vit, select_layer=select_layer), params, image=image, ops=OPS)


def test_patches_are_what_upstreams_convolution_gives() -> None:
    spec = golden("qwen2").spec
    params = random_params(spec)
    pixels = torch.randn(2, 84, 84, 3)
    rows = F.conv2d(
        pixels.permute(0, 3, 1, 2), params["vision.patch.weight"], params["vision.patch.bias"], stride=14
    )
    wanted = rows.flatten(2).transpose(1, 2) + params["vision.positions"][:, 1:]
    actual = tower(spec, params, select_layer=0)(pixels)
    torch.testing.assert_close(actual, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("select_layer", "depth"), [(-1, 2), (-2, 1), (-3, 0), (0, 0), (1, 1), (2, 2)])
def test_select_layer_indexes_embeddings_then_layers(select_layer: int, depth: int) -> None:
    spec = golden("qwen2").spec
    params = random_params(spec)
    pixels = torch.randn(1, 84, 84, 3)
    assert torch.equal(
        tower(spec, params, select_layer=select_layer)(pixels),
        tower(spec, params, select_layer=depth)(pixels),
    )


def test_another_tile_size_resizes_the_position_table_and_keeps_the_class_row() -> None:
    spec = golden("qwen2").spec
    params = random_params(spec)
    pixels = torch.zeros(1, 112, 112, 3)
    actual = tower(spec, params, image=112, select_layer=0)(pixels)
    table = params["vision.positions"][:, 1:].view(1, 6, 6, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(table, size=(8, 8), mode="bicubic", align_corners=False)
    wanted = resized.flatten(2).transpose(1, 2) + params["vision.patch.bias"]
    torch.testing.assert_close(actual, wanted)


def test_normalising_happens_in_fp32_before_the_cast() -> None:
    spec = golden("qwen2").spec
    assert spec.vision is not None
    net = random_network(spec, ops=OPS, device=torch.device("cpu"), dtype=torch.bfloat16, seed=0)
    assert isinstance(net, Vlm)
    seen: list[BytePixels] = []
    encoder = net._encoder
    assert isinstance(encoder, Tiles)
    encoder._tower = lambda pixels: seen.append(pixels) or torch.zeros(1, 36, 64).bfloat16()  # type: ignore
    tiles = torch.randint(0, 256, (1, 84, 84, 3), dtype=torch.uint8)
    assert net.encode_images([image_of(tiles)], max_tiles=1)[0].dtype == torch.bfloat16
    mean, std = torch.tensor(spec.vision.pixels.mean), torch.tensor(spec.vision.pixels.std)
    assert torch.equal(seen[0].numbers(), ((tiles.float() / 255 - mean) / std).bfloat16())


def test_tiles_do_not_see_each_other() -> None:
    spec = golden("llama3_vit6b").spec
    net = random_network(spec, ops=OPS, device=torch.device("cpu"), dtype=torch.float32, seed=0)
    tiles = torch.randint(0, 256, (3, 84, 84, 3), dtype=torch.uint8)
    images = [image_of(tiles[:1]), image_of(tiles[1:])]
    together = torch.cat(net.encode_images(images, max_tiles=3))
    apart = torch.cat([net.encode_images([image_of(tile[None])], max_tiles=1)[0] for tile in tiles])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)
