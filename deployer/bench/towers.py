"""Prints what encoding pictures takes: `python -m deployer.bench.towers [model ...]`, on a GPU.

Vision towers, projectors and what stands between them, of released models at their real sizes with random
weights in bfloat16, from pixels in host memory to rows on the device, by both op tables. No decoder, no
scheduler, no HTTP. A row is so many pictures at once: small ones of the least tiles, and one photo.
"""

import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch

from deployer.config.hyper_parameters import without_factor_lists
from deployer.config.load import load_config
from deployer.errors import DeployError
from deployer.plan.step_times import tile_flops
from deployer.table import print_table
from engines.backends import ENGINES
from engines.errors import DeviceError, EngineError
from engines.families import read_spec
from engines.network import Network
from engines.spec import ModelSpec, VisionSpec
from engines.vision.parts import ImagePixels, ImagePlan
from engines.weights.load import random_network

# One model a distinct tower and way to cut pictures.
MODELS = (
    "internvl2_8b",
    "internvl2_26b",
    "llava_v1_5_7b",
    "llava_v1_6_vicuna_7b",
    "internlm_xcomposer2_vl_7b",
    "internlm_xcomposer2d5_7b",
    "phi_3_vision_128k",
    "yi_vl_6b",
    "deepseek_vl_1_3b_chat",
    "deepseek_vl_7b_chat",
    "mini_gemini_7b",
    "mini_gemini_7b_hd",
    "minicpm_llama3_v_2_5",
    "qwen_vl_chat",
    "qwen2_vl_7b",
    "qwen2_5_vl_7b",
    "cogvlm_chat",
    "cogvlm2_llama3_chat_19b",
    "glm_4v_9b",
)
SMALL, PHOTO = (448, 448), (1344, 896)  # pixels
AT_ONCE = (1, 4, 8)
MAX_TILES = 16  # of one pass, as conf/vision/default.yaml has it
REPEATS, ENOUGH_S = 7, 0.5
HEADS = ("model", "pictures", "tiles", "tokens a tile", "ops", "ms", "ms a tile", "ms a picture", "TFLOP/s")


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """Pictures that are encoded together."""

    label: str
    plan: ImagePlan  # of each
    count: int


def main(models: Sequence[str]) -> int:
    """Measure the models given; returns 1 where an op table refused one.

    Raises DeviceError without a GPU, ConfigError for an unknown model.
    """
    if not torch.cuda.is_available():
        raise DeviceError("bench.towers: torch finds no CUDA GPU; run it where `nvidia-smi` shows one")
    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, bfloat16; median of {REPEATS}\n")
    rows, refused = [], []
    for model, table in product(models, ("pytorch", "turbomind")):
        print(f"{model} {table}", file=sys.stderr, flush=True)
        try:
            rows += tower_rows(model, table, device=device, dtype=torch.bfloat16)
        except EngineError as error:
            refused.append(f"{model} {table}: {error}")
    print_table(HEADS, rows, out=sys.stdout)
    print("".join(f"\nrefused: {line}" for line in refused))
    return 1 if refused else 0


def tower_rows(model: str, table: str, *, device: torch.device, dtype: torch.dtype) -> list[list[str]]:
    """Return the rows of one model on one op table, one a load."""
    spec = small_decoder(model)
    assert spec.vision is not None, f"{model} has a tower"
    network = random_network(spec, ops=ENGINES[table](device)[0], device=device, dtype=dtype, seed=0)
    return [_row(model, table, network, spec.vision, load, device) for load in loads(spec.vision)]


def small_decoder(model: str) -> ModelSpec:
    """Return the released model's spec with one decoder layer and few words: a tower needs no more."""
    config = load_config([f"+model={model}"]).model
    assert config.hyper_parameters is not None, f"{model} has hyper-parameters"
    spec = read_spec(without_factor_lists(config.hyper_parameters), origin=model)
    return replace(spec, decoder=replace(spec.decoder, num_layers=1, vocab=1024))


def loads(vision: VisionSpec) -> Iterator[Load]:
    """Yield small pictures, several at once, and a photo as it is cut without limits of ours."""
    least = vision.pixels.low_detail().plan(*SMALL)
    for count in AT_ONCE:
        yield Load(label=f"{count} x {SMALL[0]}x{SMALL[1]}", plan=least, count=count)
    yield Load(label=f"1 x {PHOTO[0]}x{PHOTO[1]}", plan=vision.pixels.plan(*PHOTO), count=1)


def _row(
    model: str, table: str, network: Network, vision: VisionSpec, load: Load, device: torch.device
) -> list[str]:
    plan = load.plan
    seconds = _seconds(network, _pictures(vision, load), device)
    tiles = load.count * plan.num_tiles
    flops = tiles * sum(tile_flops(vision, network.spec.decoder.hidden, plan))
    tokens = "+".join(str(tower.tile_tokens(plan)) for tower in vision.towers)
    figures = (seconds * 1e3, seconds * 1e3 / tiles, seconds * 1e3 / load.count)
    times = [f"{figure:.2f}" for figure in figures]
    return [model, load.label, str(tiles), tokens, table, *times, f"{flops / seconds / 1e12:.1f}"]


def _pictures(vision: VisionSpec, load: Load) -> list[ImagePixels]:
    generator = np.random.default_rng(0)
    shapes = vision.pixels.shapes(load.plan)
    arrays = tuple(generator.integers(0, 256, shape, dtype=np.uint8) for shape in shapes)
    shared = vision.assembly.shared([load.plan])
    return [ImagePixels(arrays=arrays, plan=load.plan, shared=shared)] * load.count


@torch.inference_mode()
def _seconds(network: Network, pictures: Sequence[ImagePixels], device: torch.device) -> float:
    """Return the median time of one call; the first, which compiles and allocates, is not counted."""
    times: list[float] = []
    started = 0.0
    for turn in range(REPEATS + 1):
        _wait(device)
        begin = time.perf_counter()
        network.encode_images(pictures, max_tiles=MAX_TILES)
        _wait(device)
        if turn == 0:
            started = time.perf_counter()
            continue
        times.append(time.perf_counter() - begin)
        if time.perf_counter() - started > ENOUGH_S:
            break
    return statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    try:
        sys.exit(main(tuple(sys.argv[1:]) or MODELS))
    except (DeployError, EngineError) as error:
        sys.exit(f"error: {error}")
