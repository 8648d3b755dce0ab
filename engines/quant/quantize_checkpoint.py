"""A checkpoint quantized layer by layer: one layer on the device at a time, whatever the model's size.

Calibration prompts run through the decoder twice, side by side: through the layers as they are, and through
those that were quantized before. SmoothQuant looks at the first stream, AWQ and GPTQ at the second, whose
errors they are to make up for; the report compares the two.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from engines.memory.device_memory import peak_bytes
from engines.ops import Fp8, Int8
from engines.quant.decoder_layer import LINEARS, QuantizedLayer, quantize_layer
from engines.quant.decoder_stream import DecoderStream
from engines.quant.judge import judge
from engines.quant.layer_store import LayerStore, source_rows
from engines.quant.linear_tensors import tensors_of
from engines.quant.method import Method
from engines.quant.next_tokens import NextTokens
from engines.quant.packing import packed_tensors
from engines.quant.prompt_steps import CalibrationPrompt
from engines.quant.remainder import kept_modules, weight_files, write_remainder
from engines.quant.rounding import Codes
from engines.quant.staging import Progress, Staging, layer_shard
from engines.quant.statistics import InputStatistics
from engines.quant.tower import Features, run_tower

COMMIT_S = 60.0  # work that a kill may cost; what is written for it can be gigabytes
OnLayer = Callable[[int], None]  # layers that are done


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What was made, and what it cost."""

    places: dict[str, str]  # tensor: file
    kept: list[str]  # modules that stayed as they are
    layers: list[dict[str, Any]]  # one each: layer, error of its output, errors of its linear layers
    judged: NextTokens  # of the answers that were held out
    vision_error: float | None  # of the rows of pictures; None: not quantized
    bytes_before: int
    bytes_after: int
    peak_bytes: int  # of the device's memory that tensors took at once; on a CPU, of the process


@torch.inference_mode()
def quantize_checkpoint(
    store: LayerStore,
    prompts: Sequence[CalibrationPrompt],
    method: Method,
    staging: Staging,
    *,
    held_out: int,
    device: torch.device,
    dtype: torch.dtype,
    on_layer: OnLayer,
) -> Outcome:
    """Quantize into a staging folder; the last `held_out` prompts only judge. `method` is a fitted one."""
    spec = store.spec.decoder
    tower = run_tower(store, prompts, method, device=device, dtype=dtype)
    calibrating = len(prompts) - held_out
    embed = store.load(lambda name: name == "decoder.embed.weight", device=device, dtype=dtype)

    def entering(features: Features) -> tuple[DecoderStream, list[Tensor]]:
        stream = DecoderStream(spec, prompts, features, calibrating=calibrating, device=device, dtype=dtype)
        return stream, stream.embed(embed["decoder.embed.weight"])

    stream, plain = entering(tower.plain)
    rows = (plain, plain if tower.quantized is tower.plain else entering(tower.quantized)[1])
    progress = staging.progress()
    if progress.layers:
        staging.refuse_holes(progress.layers)
        rows = _unpacked_rows(staging.rows(progress.layers), len(plain))
    work = _Layers(store=store, stream=stream, method=method, staging=staging, device=device, dtype=dtype)
    committed_s = time.monotonic()
    for i in range(progress.layers, spec.num_layers):
        on_layer(i)
        rows, note = work.quantize(i, rows)
        progress = Progress(layers=i + 1, notes=[*progress.notes, note])
        if i + 1 == spec.num_layers or time.monotonic() - committed_s >= COMMIT_S:
            staging.commit(progress, _packed_rows(rows))
            committed_s = time.monotonic()
    on_layer(spec.num_layers)
    judged = judge(store, stream, *rows, device=device, dtype=dtype)
    places, packed = _write_all(store, staging, method, tower.codes, progress)
    return Outcome(
        places=places,
        kept=kept_modules(store, packed, as_patterns=not method.is_4_bit),
        layers=progress.notes,
        judged=judged,
        vision_error=tower.error,
        bytes_before=sum(path.stat().st_size for path in weight_files(store.checkpoint.folder)),
        bytes_after=sum((staging.folder / file).stat().st_size for file in set(places.values())),
        peak_bytes=peak_bytes(device),
    )


Rows = tuple[list[Tensor], list[Tensor]]  # of the plain and of the quantized stream, [T, H] a batch


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layers:
    """One layer after another."""

    store: LayerStore
    stream: DecoderStream
    method: Method
    staging: Staging
    device: torch.device
    dtype: torch.dtype

    def quantize(self, i: int, rows: Rows) -> tuple[Rows, dict[str, Any]]:
        """Quantize a layer and write it; return what leaves it, and a note for the report."""
        name = f"decoder.layers.{i}"
        params = self.store.load(lambda key: key.startswith(f"{name}."), device=self.device, dtype=self.dtype)
        seen = {
            f"{name}.{linear}.weight": InputStatistics(
                params[f"{name}.{linear}.weight"].shape[1], self.device
            )
            for linear in LINEARS
        }
        second = self.method.compensates
        plain = self.stream.layer(params, name, rows[0], None if second else seen)
        if second:
            self.stream.layer(params, name, rows[1], seen)
        made = quantize_layer(self.store.spec.decoder, params, name, seen, self.method)
        quantized = self.stream.layer(_as_it_runs(params, made), name, rows[1], None)
        changed = self._write(i, made)
        note = {
            "layer": i,
            "error": _distance(plain, quantized),
            "linears": {key.split(".")[3]: error for key, error in made.errors.items()},
            "changed": changed,
        }
        return (plain, quantized), note

    def _write(self, i: int, made: QuantizedLayer) -> list[str]:
        """Write the layer's shard; return the checkpoint's names that it replaces."""
        tensors: dict[str, Tensor] = {}
        replaced: list[str] = []
        for name, codes in made.linears.items():
            tensors |= _source_tensors(self.store, name, codes, self.method)
            replaced += [claim.source for claim in self.store.sources(name)]
        for name, changed in made.changed.items():
            for claim in self.store.sources(name):
                own = self.store.checkpoint.read(claim.source, axis=0, start=0, length=1).dtype
                tensors[claim.source] = changed.cpu()[source_rows(claim)].to(own)
                replaced.append(claim.source)
        self.staging.save_shard(layer_shard(i), tensors)
        return replaced


def _as_it_runs(params: dict[str, Tensor], made: QuantizedLayer) -> dict[str, Tensor]:
    """Return the parameters of a layer that computes what the quantized one will."""
    ready = dict(params) | made.changed
    for key, codes in made.linears.items():
        if codes.zeros_OG is not None:
            ready[key] = codes.dequantized().to(params[key].dtype)
            continue
        kind = Int8 if codes.codes_OI.dtype == torch.int8 else Fp8
        weight = kind(weight_OI=codes.codes_OI, scale_O=codes.scales_OG[:, 0].contiguous(), bias_O=None)
        ready |= tensors_of(weight, key.removesuffix(".weight"))
    return ready


def _source_tensors(store: LayerStore, name: str, codes: Codes, method: Method) -> dict[str, Tensor]:
    """Return the packed tensors of a parameter under the checkpoint's names."""
    tensors: dict[str, Tensor] = {}
    for claim in store.sources(name):
        rows = source_rows(claim).to(codes.codes_OI.device)
        part = replace(
            codes,
            codes_OI=codes.codes_OI.view(torch.uint8)[rows].view(codes.codes_OI.dtype),
            scales_OG=codes.scales_OG[rows],
            zeros_OG=None if codes.zeros_OG is None else codes.zeros_OG[rows],
        )
        module = claim.source.removesuffix(".weight")
        tensors |= {module + suffix: tensor for suffix, tensor in packed_tensors(part, method).items()}
    return tensors


def _write_all(
    store: LayerStore, staging: Staging, method: Method, tower: dict[str, Codes], progress: Progress
) -> tuple[dict[str, str], set[str]]:
    """Write what is no decoder layer; return where every tensor is, and which parameters are packed."""
    replaced = {source for note in progress.notes for source in note["changed"]}
    places: dict[str, str] = {}
    if tower:
        tensors: dict[str, Tensor] = {}
        for name, codes in tower.items():
            tensors |= _source_tensors(store, name, codes, method)
            replaced |= {claim.source for claim in store.sources(name)}
        staging.save_shard("model-tower", tensors)
        places |= dict.fromkeys(tensors, "model-tower.safetensors")
    places |= write_remainder(store, staging, written=replaced)
    for i in range(progress.layers):
        places |= dict.fromkeys(staging.shard_names(layer_shard(i)), f"{layer_shard(i)}.safetensors")
    layers = {f"decoder.layers.{i}.{linear}.weight" for i in range(progress.layers) for linear in LINEARS}
    return places, layers | set(tower)


def _distance(plain: Sequence[Tensor], quantized: Sequence[Tensor]) -> float:
    moved = sum(float((a.float() - b.float()).square().sum()) for a, b in zip(plain, quantized, strict=True))
    return float((moved / max(sum(float(a.float().square().sum()) for a in plain), 1e-12)) ** 0.5)


def _packed_rows(rows: Rows) -> dict[str, Tensor]:
    return {
        f"{kind}{n}": part for kind, parts in zip("pq", rows, strict=True) for n, part in enumerate(parts)
    }


def _unpacked_rows(tensors: dict[str, Tensor], count: int) -> Rows:
    return [tensors[f"p{n}"] for n in range(count)], [tensors[f"q{n}"] for n in range(count)]
