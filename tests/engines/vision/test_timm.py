"""A tower that timm computes: timm's own features, from a LLaVA-like checkpoint that holds its state dict."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from drawn_checkpoint import drawn_tensors
from family_golden import FamilyGolden
from llava_golden import FOLDERS
from PIL import Image
from safetensors.torch import save_file
from timm_process import imported_timm

from engines.errors import CheckpointError, PackageError
from engines.pytorch.ops_torch import TorchOps
from engines.spec import ModelSpec
from engines.vision.parts import ImagePixels
from engines.vision.towers.timm_sizes import TimmModel, measured, timm_model
from engines.vision.towers.timm_spec import TimmSpec
from engines.weights.parameters import parameters

TOWER = "model.vision_tower.vision_tower."
LLAVA = FOLDERS["v15_orig_legacy_type"]


@pytest.fixture(scope="module")
def timm() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        yield imported_timm(patch)


def random_model(timm: Any, name: str) -> Any:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7).eval()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.05, 0.3)  # running variances stay positive, and no scale hides a layer
    return model


@pytest.mark.parametrize(
    ("name", "select_layer"),
    [("test_vit", -2), ("test_vit", -1), ("test_vit3", -2), ("test_convnext", -2), ("test_resnet", -1)],
)
@torch.no_grad()
def test_features_are_timms(timm: Any, name: str, select_layer: int) -> None:
    model, spec = random_model(timm, name), msgspec.convert(measured(name, select_layer), TimmModel).tower
    state = model.state_dict()
    params = {p.name: state[p.name.removeprefix("vision.")] for p in spec.parameters("vision")}
    tower = spec.build(params, "vision", ops=TorchOps())
    pixels = torch.rand(2, spec.image, spec.image, 3)
    ours = tower(pixels)
    wanted = model.forward_intermediates(
        pixels.permute(0, 3, 1, 2), indices=[select_layer], norm=False, intermediates_only=True
    )[0]
    assert ours.shape == (2, spec.grid**2, spec.hidden)
    wanted = wanted.flatten(2).mT
    assert (ours - wanted).abs().max() <= 1e-5 * wanted.abs().max().clamp(min=1)
    assert ours.std() > 1e-3


def checkpoint(timm: Any, folder: Path, **changes: Any) -> tuple[Path, Any]:
    """Write LLaVA's fixture with timm's `test_vit` as its tower; return its folder and timm's model."""
    model = random_model(timm, "test_vit")
    config = json.loads((LLAVA / "config.json").read_text())
    config |= {"mm_vision_tower": "timm/test_vit", "mm_hidden_size": 64} | changes
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (tensors,) = drawn_tensors(LLAVA).values()
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(TOWER)}
    kept["model.mm_projector.weight"] = torch.randn(64, 64) / 8
    kept |= {TOWER + name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(kept, folder / "model.safetensors")
    return folder, model


@torch.no_grad()
def test_a_checkpoint_that_holds_timms_state_dict_gives_timms_rows(timm: Any, tmp_path: Path) -> None:
    folder, model = checkpoint(timm, tmp_path / "m")
    golden = FamilyGolden(folder)
    vision, network = golden.spec.vision, golden.network()
    assert vision is not None
    picture = Image.fromarray(np.arange(90 * 60 * 3, dtype=np.uint32).reshape(60, 90, 3).astype(np.uint8))
    plan = vision.pixels.plan(*picture.size)
    arrays = vision.pixels.arrays(picture, plan)
    (rows,) = network.encode_images([ImagePixels(arrays=arrays, plan=plan)], max_tiles=1)
    config = model.pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(3, 1, 1) for key in ("mean", "std"))
    pixels = (torch.tensor(arrays[0]).permute(0, 3, 1, 2) / 255 - mean) / std
    (features,) = model.forward_intermediates(pixels, indices=[-2], norm=False, intermediates_only=True)
    state = network_projector(folder)
    wanted = features.flatten(2).mT[0] @ state["weight"].T + state["bias"]
    assert len(rows) == vision.num_tokens(plan) == 100
    torch.testing.assert_close(rows, wanted, atol=1e-5, rtol=1e-5)


def network_projector(folder: Path) -> dict[str, torch.Tensor]:
    """Return the projector's tensors as the checkpoint has them."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    return {kind: tensors[f"model.mm_projector.{kind}"] for kind in ("weight", "bias")}


def test_a_stray_tensor_of_the_tower_and_another_width_are_named(timm: Any, tmp_path: Path) -> None:
    folder, _ = checkpoint(timm, tmp_path / "m")
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {TOWER + "blocks.99.w": torch.ones(2)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no name rule of this config claims: .*`.*blocks\.99\.w`"):
        FamilyGolden(folder).network()
    wide, _ = checkpoint(timm, tmp_path / "wide", mm_hidden_size=65)
    with pytest.raises(CheckpointError, match="`mm_hidden_size` is 65: must be 64: the width of the tower"):
        _ = FamilyGolden(wide).spec


def test_a_spec_of_timm_knows_sizes_and_costs_without_importing_it(timm: Any, tmp_path: Path) -> None:
    folder, model = checkpoint(timm, tmp_path / "m")
    spec: ModelSpec = FamilyGolden(folder).spec
    assert spec.vision is not None and isinstance(spec.vision.towers[0], TimmSpec)
    tower = spec.vision.towers[0]
    ours = {p.name: p.shape for p in parameters(spec) if p.name.startswith("vision.")}
    state = model.state_dict()
    assert ours == {f"vision.{name}": tuple(state[name].shape) for name, _ in tower.tensors}
    assert {name for name, _ in tower.tensors} | set(tower.unused) == set(state)
    num_blocks, rows, width = len(model.blocks) - 1, tower.grid**2 + 1, tower.hidden
    linear = sum(tensor.numel() for name, tensor in state.items() if "blocks.0." in name and tensor.ndim == 2)
    patches = 2 * tower.grid**2 * state["patch_embed.proj.weight"].numel()
    assert tower.flops == num_blocks * 2 * rows * linear + patches
    assert tower.attention_flops == num_blocks * 4 * rows**2 * width


def test_a_model_that_timm_does_not_have_is_named_with_those_near_it(timm: Any) -> None:
    with pytest.raises(
        CheckpointError, match=r"`timm/test_vitt`: timm .* has no such model; near it: .*`test_vit`"
    ):
        timm_model("test_vitt", -2)
    with pytest.raises(CheckpointError, match="`timm/test_vit`: has no layer -99"):
        measured("test_vit", -99)


def test_pocket_vl_is_read_and_built_where_neither_timm_nor_torchvision_is(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['timm'] = sys.modules['torchvision'] = None; "
        "from deployer import pipeline; from PIL import Image; "
        "pipe = pipeline('pocket_vl', engine='pytorch'); "
        "print(pipe(('What is it?', Image.new('RGB', (40, 40), 'red'))).text); pipe.close()"
    )
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['timm'] = sys.modules['torchvision'] = None\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_timm_that_cannot_be_imported_is_told_with_the_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(
        PackageError, match=r"torchvision::nms does not exist\).*install `vlm-deployer\[timm\]`"
    ):
        timm_model("another_vit", -2)
