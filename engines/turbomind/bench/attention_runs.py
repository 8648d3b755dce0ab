"""Variants of the Hopper attention kernels, what is timed of each, and torch's figures for the shapes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from engines.turbomind.bench.attention_cases import DIM, HEADS, KV_HEADS, cache, paged_batch, queries
from engines.turbomind.bench.timing import random, time_us
from engines.turbomind.cubin_cache import CubinCache, default_cache_dir
from engines.turbomind.gpu import Constants, Gpu
from engines.turbomind.kernel_source import read_kernel
from engines.turbomind.nvrtc import cache_key, compile_cubin
from engines.turbomind.ops.attention_full_hopper import attention_full_hopper
from engines.turbomind.ops.attention_prefill_hopper import attention_prefill_hopper
from engines.turbomind.ops.hopper_shape import HopperShape, box_keys

PAGE_TOKENS = 64
PREFILLS = ((1, 512, 0), (1, 2048, 0), (4, 2048, 0), (1, 8192, 0), (1, 512, 2048), (16, 64, 1024))
FULLS = ((1, 1025, 16, 64), (8, 1025, 16, 64), (32, 1025, 16, 64), (8, 1025, 25, 128))


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A cut of one of the two kernels."""

    prefill: bool
    shape: HopperShape
    dynamic: bool = True  # of prefill: items from a counter
    dim: int = DIM  # of full: the head that is timed

    def shape_of(self, length: int) -> HopperShape:
        """Return the cut for images of this length: what behind whole items is not one query is an item."""
        return replace(self.shape, lone=self.shape.lone and self.shape.leaves_one(length))


_PREFILL = HopperShape(keys=128, consumers=2, stages=2)
_FULL_64 = HopperShape(keys=80, consumers=3, stages=3)
_FULL_128 = HopperShape(keys=128, consumers=2, stages=2)

VARIANTS: dict[str, Variant] = {
    "prefill": Variant(prefill=True, shape=_PREFILL),
    "prefill-static": Variant(prefill=True, shape=_PREFILL, dynamic=False),
    "prefill-no-slack": Variant(prefill=True, shape=replace(_PREFILL, slack=0)),
    "prefill-no-turns": Variant(prefill=True, shape=replace(_PREFILL, turns=False)),
    "prefill-no-overlap": Variant(prefill=True, shape=replace(_PREFILL, overlap=False)),
    "prefill-rows-copied": Variant(prefill=True, shape=replace(_PREFILL, tensor_copies=False)),
    "prefill-3x64": Variant(
        prefill=True, shape=HopperShape(keys=64, consumers=3, stages=3, queries=1, overlap=False)
    ),
    "prefill-keys-176": Variant(prefill=True, shape=HopperShape(keys=176, consumers=2, stages=2, queries=1)),
    "prefill-keys-80": Variant(prefill=True, shape=HopperShape(keys=80, consumers=2, stages=3)),
    "full64-3x80": Variant(prefill=False, dim=64, shape=_FULL_64),
    "full64-3x80-no-overlap": Variant(prefill=False, dim=64, shape=replace(_FULL_64, overlap=False)),
    "full64-3x80-no-slack": Variant(prefill=False, dim=64, shape=replace(_FULL_64, slack=0)),
    "full64-3x80-no-turns": Variant(prefill=False, dim=64, shape=replace(_FULL_64, turns=False)),
    "full64-3x80-rows-copied": Variant(prefill=False, dim=64, shape=replace(_FULL_64, tensor_copies=False)),
    "full64-4x80-lone": Variant(
        prefill=False, dim=64, shape=replace(_FULL_64, consumers=4, overlap=False, lone=True)
    ),
    "full64-3x176": Variant(
        prefill=False,
        dim=64,
        shape=HopperShape(keys=176, consumers=3, stages=2, overlap=False),
    ),
    "full64-2x176-lone": Variant(
        prefill=False, dim=64, shape=HopperShape(keys=176, consumers=2, stages=2, lone=True)
    ),
    "full64-2x208": Variant(prefill=False, dim=64, shape=HopperShape(keys=208, consumers=2, stages=2)),
    "full64-2x176": Variant(prefill=False, dim=64, shape=HopperShape(keys=176, consumers=2, stages=2)),
    "full64-2x80": Variant(prefill=False, dim=64, shape=HopperShape(keys=80, consumers=2, stages=3)),
    "full128-2x128": Variant(prefill=False, dim=128, shape=_FULL_128),
    "full128-2x80": Variant(prefill=False, dim=128, shape=HopperShape(keys=80, consumers=2, stages=3)),
    "full128-2x80-lone": Variant(
        prefill=False, dim=128, shape=HopperShape(keys=80, consumers=2, stages=3, lone=True)
    ),
    "full128-2x176": Variant(
        prefill=False, dim=128, shape=HopperShape(keys=176, consumers=2, stages=2, queries=1)
    ),
}


def compile_all(names: Sequence[str]) -> int:
    """Compile what the timings of these variants need, side by side, into the disk cache."""
    jobs = {
        (file, constants)
        for name in names
        if name in VARIANTS
        for file, constants in _modules(VARIANTS[name])
    }
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda job: compile_to_cache(*job), sorted(jobs)))
    return len(jobs)


def _modules(variant: Variant) -> Iterator[tuple[str, tuple[tuple[str, int | str], ...]]]:
    shape = variant.shape
    if variant.prefill:
        pool = (("KV_HEADS", KV_HEADS), ("GROUP", HEADS // KV_HEADS), ("PAGE_TOKENS", PAGE_TOKENS))
        rest = (*pool, ("WINDOW", 0), ("BOX_KEYS", box_keys(shape.keys, PAGE_TOKENS)))
        yield "attention_prefill_hopper.cu", (*shape.constants("bf16", DIM), *rest)
        return
    for heads in sorted({16, *(heads for _, _, heads, dim in FULLS if dim == variant.dim)}):
        for lone in {False, shape.lone}:
            constants = replace(shape, lone=lone).constants("bf16", variant.dim)
            yield "attention_full_hopper.cu", (*constants, ("HEADS", heads))


def compile_to_cache(file: str, constants: Constants) -> None:
    """Compile a module for Hopper unless the disk cache has it."""
    source, cubins = read_kernel(file), CubinCache(default_cache_dir())
    key = cache_key(source, arch="sm_90a", constants=dict(constants))
    if cubins.load(file.removesuffix(".cu"), key) is None:
        cubin = compile_cubin(source, arch="sm_90a", constants=dict(constants)).cubin
        cubins.store(file.removesuffix(".cu"), key, cubin)


def time_variant(gpu: Gpu, name: str) -> Iterator[str]:
    """Yield a line a timed shape."""
    variant = VARIANTS[name]
    if variant.prefill:
        for num_seqs, new, prefix in PREFILLS:
            batch = paged_batch(num_seqs=num_seqs, new=new, prefix=prefix, page_tokens=PAGE_TOKENS)
            q, kv = queries(batch), cache(batch, page_tokens=PAGE_TOKENS)
            call = partial(
                attention_prefill_hopper,
                gpu,
                q,
                kv,
                batch.pages_BP,
                batch.q_starts_B1,
                batch.kv_lens_B,
                scale=DIM**-0.5,
                window=None,
                out_TND=torch.empty_like(q),
                shape=variant.shape,
                dynamic=variant.dynamic,
            )
            flops = num_seqs * (new * prefix + new * (new + 1) // 2) * HEADS * DIM * 4
            yield _line(name, f"{num_seqs} x {new} after {prefix}", call, flops)
        return
    for images, length, heads, dim in FULLS:
        if dim == variant.dim:
            q, k, v = random(images, length, 3, heads, dim).unbind(2)
            call = partial(
                attention_full_hopper,
                gpu,
                q,
                k,
                v,
                scale=dim**-0.5,
                strides=(q.stride(1), k.stride(1), v.stride(1)),
                shape=variant.shape_of(length),
            )
            yield _line(
                name, f"{images} x {length}, {heads}x{dim}", call, images * heads * length**2 * dim * 4
            )


def torch_rows() -> Iterator[str]:
    """Yield what torch's flash and cuDNN attention take for the dense shapes."""
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
        name = f"torch {backend.name.split('_')[0].lower()}"
        for num_seqs, new, prefix in PREFILLS:
            if prefix == 0:
                q = random(num_seqs, HEADS, new, DIM)
                k, v = (random(num_seqs, KV_HEADS, new, DIM) for _ in range(2))
                call = partial(_dense, backend, q, k, v, causal=True)
                flops = num_seqs * new * (new + 1) // 2 * HEADS * DIM * 4
                yield _line(name, f"{num_seqs} x {new} after 0", call, flops)
        for images, length, heads, dim in FULLS:
            q, k, v = (random(images, heads, length, dim) for _ in range(3))
            call = partial(_dense, backend, q, k, v, causal=False)
            yield _line(
                name, f"{images} x {length}, {heads}x{dim}", call, images * heads * length**2 * dim * 4
            )


def _dense(
    backend: SDPBackend, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool
) -> torch.Tensor:
    with sdpa_kernel(backend):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=causal)


def _line(name: str, shape: str, call: Callable[[], object], flops: int) -> str:
    try:
        us = time_us([call] * 4)
    except RuntimeError as error:  # a backend that refuses the shape
        return f"! {name:<26} {shape:<20} {str(error).splitlines()[0][:120]}"
    return f"| {name:<26} {shape:<20} {us:9.2f} us {flops / us / 1e6:7.1f} TFLOP/s"
