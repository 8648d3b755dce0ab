"""A real engine process around a tiny random InternVL, and the ways to ask it for tokens.

Run as a script it is the process: as `engines.ipc.process`, with a random network instead of a checkpoint.
With faults switched on by token ids in the prompt, it can be made to fail, to hang, or to be slow.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engines.ipc.client import EngineClient
from engines.messages import Delta, Done, Failed, ImageInput, LogLevel, Submit, Vocabulary
from engines.options import EngineOptions, KvOptions, SchedulerOptions, VisionOptions
from engines.spec import DecoderSpec, ModelSpec, RopeSpec, VisionSpec
from engines.vision.assembly.tiles_spec import TilesSpec
from engines.vision.parts import ImagePixels, ImagePlan
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec
from engines.vision.projectors.pixel_shuffle_mlp_spec import PixelShuffleMlpSpec
from engines.vision.towers.intern_vit_spec import InternVitSpec

if TYPE_CHECKING:
    from engines.backends import Backend
    from engines.ipc.pixel_files import PixelFiles
    from engines.network import Network

VOCAB = 96
IMAGE_ID = 90
RAISES_ID, HANGS_ID, NAN_ID, SLOW_ID = 91, 92, 93, 94
LOST_ID = 89  # the last one of the vocabulary stands for a token that is no number
TOKENS_PER_TILE = 4
SIDE = 16

SPEC = ModelSpec(
    family="internvl",
    decoder_names="internlm2",
    decoder=DecoderSpec(
        num_layers=2,
        hidden=32,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        ffn=48,
        vocab=VOCAB,
        norm_eps=1e-5,
        rope=RopeSpec(theta=10000.0),
        max_positions=256,
    ),
    vision=VisionSpec(
        towers=(
            InternVitSpec(
                image=SIDE,
                patch=4,
                hidden=16,
                num_layers=1,
                num_heads=2,
                ffn=32,
                norm="layer_norm",
                norm_eps=1e-6,
                qkv_bias=True,
                qk_norm=False,
                select_layer=-1,
            ),
        ),
        projector=PixelShuffleMlpSpec(factor=2),
        pixels=DynamicTilesSpec(
            image=SIDE,
            min_tiles=1,
            max_tiles=4,
            thumbnail=True,
            mean=(0.5, 0.5, 0.5),
            std=(0.25, 0.25, 0.25),
        ),
        assembly=TilesSpec(rows_per_tile=TOKENS_PER_TILE),
    ),
    dtype="float32",
)

OPTIONS = EngineOptions(
    kind="pytorch",
    device="cpu",
    dtype="auto",
    tp=1,
    decode_weights=0.0,
    load_format="checkpoint",
    kv=KvOptions(format="none", page_tokens=8, num_pages=None, memory=0.01, prefix_caching=True),
    scheduler=SchedulerOptions(
        max_batch_size=8,
        max_prefill_token_num=64,
        num_tokens_per_iter=None,
        max_prefill_iters=1,
        tiles_per_iter=None,
        session_len=None,
        classes=(),
        speculation=None,
    ),
    vision=VisionOptions(max_batch_size=3, cache_bytes=1 << 20, uncut_pixels=0),
    rope_scaling_factor=None,
    use_logn_attn=None,
    step_timeout_s=60.0,
)

_names = itertools.count()


def options(**changes: Any) -> EngineOptions:
    """OPTIONS with fields changed, whichever part they belong to; by name."""
    parts: dict[str, Any] = {}
    for part in ("kv", "scheduler", "vision"):
        old = getattr(OPTIONS, part)
        mine = {name: changes.pop(name) for name in tuple(changes) if name in old.__slots__}
        parts[part] = replace(old, **mine)
    return replace(OPTIONS, **parts, **changes)


def client(
    how: EngineOptions = OPTIONS,
    *,
    max_restarts: int = 3,
    start_timeout_s: float = 120.0,
    vocabulary: Vocabulary | None = None,
    log_level: LogLevel | None = None,
) -> EngineClient:
    """An engine client whose process runs this file."""
    return EngineClient(
        Path("nowhere"),
        SPEC,
        how,
        start_timeout_s=start_timeout_s,
        max_restarts=max_restarts,
        vocabulary=vocabulary,
        log_level=log_level,
        command=(sys.executable, __file__),
    )


def tiles(seed: int, count: int = 1) -> NDArray[np.uint8]:
    """Tiles of noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def image_input(
    files: "PixelFiles",
    array: NDArray[np.uint8],
    *,
    key: bytes,
    start: int,
    rows_per_tile: int = TOKENS_PER_TILE,
) -> ImageInput:
    """Return the message part of a picture's tiles, all of whose tokens are image rows."""
    num_tokens = len(array) * rows_per_tile
    return ImageInput(
        key=key,
        start=start,
        num_tokens=num_tokens,
        rows=((0, num_tokens),),
        pixels=(files.write(array),),
        plan=plan_of(len(array)),
        shared=(),
    )


def plan_of(num_tiles: int) -> ImagePlan:
    """Return the plan of a picture that is so many tiles wide; two and more have a thumbnail."""
    columns = num_tiles if num_tiles == 1 else num_tiles - 1
    return ImagePlan(width=SIDE * columns, height=SIDE, grid=(columns, 1), num_tiles=num_tiles)


def picture(seed: int, num_tiles: int = 1) -> ImagePixels:
    """Return a picture of noise as the engine gets it."""
    return ImagePixels(arrays=(tiles(seed, num_tiles),), plan=plan_of(num_tiles))


def submit(
    engine: EngineClient | None,
    prompt: Sequence[int],
    *,
    pictures: Sequence[tuple[int, int]] = (),
    priority: int = 0,
    **how: Any,
) -> Submit:
    """A request; `pictures` are (start, seed) of one-tile images, whose tokens the prompt must hold."""
    from sequences import sampling

    images = []
    for start, seed in pictures:
        assert engine is not None, "pictures need an engine that takes their pixels"
        key = seed.to_bytes(16, "little")
        images.append(image_input(engine.pixels, tiles(seed), key=key, start=start))
    return Submit(
        request_id=f"request-{next(_names)}",
        token_ids=tuple(prompt),
        images=tuple(images),
        sampling=sampling(**how),
        priority=priority,
    )


async def ask(engine: EngineClient, request: Submit) -> tuple[list[int], Done | Failed]:
    """The tokens of one request, and how it ended; it must end exactly once."""
    tokens: list[int] = []
    ends: list[Done | Failed] = []
    async for reply in engine.submit(request):
        assert not ends, "a reply after the end"
        if isinstance(reply, Delta):
            tokens += reply.token_ids
        else:
            ends.append(reply)
    [end] = ends
    return tokens, end


async def wait_until(condition: Any, timeout_s: float = 60.0) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "what was waited for never came"
        await asyncio.sleep(0.01)


def load_tiny(folder: Path, spec: ModelSpec, backend: "Backend") -> "Network":
    """A random network whose faults are switched on by token ids."""
    from engines.weights.load import random_network

    network = random_network(
        spec,
        ops=backend.ops,
        device=backend.device,
        dtype=backend.dtype,
        seed=0,
        rank=backend.group.rank,
        tp=backend.group.size,
    )
    return Faulty(network)


class Faulty:
    """A network that does to a step what a token id in it says."""

    def __init__(self, network: "Network") -> None:
        self._network = network
        self.spec = network.spec
        self.encode_images = network.encode_images

    def logits(self, hidden: Any) -> Any:
        """Logits in which no fault is ever the next token."""
        logits = self._network.logits(hidden)
        logits[:, LOST_ID:] = float("-inf")
        return logits

    def hidden(self, step: Any, kv: Any) -> Any:
        """Run the step, or not."""
        ids = step.token_ids_T.tolist()
        if RAISES_ID in ids:
            raise RuntimeError("this step was told to fail")
        if LOST_ID in ids:
            _lose(step.token_ids_T.device)
        if HANGS_ID in ids:
            time.sleep(3600)
        if SLOW_ID in ids:
            time.sleep(0.05)
        hidden = self._network.hidden(step, kv)
        if NAN_ID in ids:
            row_of = {int(token): row for row, token in enumerate(step.sample_rows_S)}
            starts = step.attention.q_starts_B1.tolist()
            for first, after in itertools.pairwise(starts):
                if NAN_ID in ids[first:after] and after - 1 in row_of:
                    hidden[row_of[after - 1]] = float("nan")
        return hidden


def _lose(device: Any) -> None:
    """Do what leaves a device of no more use: an access outside of memory, or what stands for one."""
    import torch

    def lost(*_: Any, **__: Any) -> Any:
        raise RuntimeError("this device was told to be lost")

    if device.type == "cuda":
        torch.zeros(1, device=device)[torch.full((1,), 1 << 30, device=device)]
        return
    torch.ones = lost
    lost()


if __name__ == "__main__":
    from engines.ipc.process import leave, main

    leave(main(load_tiny))
