"""One golden folder on one engine: every case on every path, held to the reference.

Paths: the prompt as a whole and in chunks over the bare network, logits compared; then the engine's
scheduler, all cases at once and once more from the prefix cache, tokens compared.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deployer.parity.case import Case, read_case
from deployer.parity.compare import Agreement, Difference, chosen, difference, said
from deployer.parity.engine_tokens import EngineTokens, engine_tokens
from deployer.parity.golden_folder import GoldenFolder
from deployer.parity.golden_videos import PIXELS, clip_of
from deployer.parity.options import Dtype, ParityOptions, Tolerance
from deployer.parity.paged_network import PagedNetwork
from engines.backends import Backend
from engines.loading import load_engine
from engines.messages import Start
from engines.network import Network
from engines.network_loaders import load_checkpoint
from engines.options import EngineOptions
from engines.spec import ModelSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseResult:
    """What one case gave."""

    name: str
    num_tokens: int
    num_images: int
    pixels: Difference | None  # of our preprocessing; None without picture files, and without numbers
    rows: Difference | None  # of image rows; None for a text, and where the reference kept none
    logits: dict[str, Difference]  # by path: whole, chunked
    tokens: dict[str, Agreement]  # by path: whole, chunked, engine, cached
    cached_tokens: int  # of the prompt, found in the prefix cache
    cache_holds: bool  # whether they are there where a page was full, and only there

    @property
    def holds(self) -> bool:
        """Whether everything is as it must be."""
        numbers = [*self.logits.values(), *(part for part in (self.pixels, self.rows) if part is not None)]
        tokens = self.tokens.values()
        return self.cache_holds and all(part.holds for part in numbers) and all(part.holds for part in tokens)


@dataclass(frozen=True, kw_only=True, slots=True)
class Parity:
    """What a folder gave."""

    folder: Path
    device: str
    dtype: Dtype
    tolerance: Tolerance
    cases: list[CaseResult]
    left_out: dict[str, str]  # cases that no engine here runs, and why

    @property
    def holds(self) -> bool:
        """Whether every case that ran holds."""
        return bool(self.cases) and all(case.holds for case in self.cases)


def measure(folder: Path, spec: ModelSpec, engine: EngineOptions, options: ParityOptions) -> Parity:
    """Run a folder. Raises ConfigError for one that cannot be read, EngineError for what cannot run."""
    golden = GoldenFolder.open(folder)
    left_out = {name: why for name in golden.cases if (why := unreadable(golden, name, spec))}
    cases = [read_case(golden, name, spec) for name in golden.cases if name not in left_out]
    longest = max(len(case.token_ids) + len(case.greedy) for case in cases)
    loaded: list[tuple[Network, Backend]] = []

    def load(place: Path, of: ModelSpec, backend: Backend) -> Network:
        network = load_checkpoint(place, of, backend)
        loaded.append((network, backend))
        return network

    start = Start(
        folder=str(folder),
        spec=_for_prompts_of(spec, longest),
        options=_small(engine, options, longest=longest, num_cases=len(cases)),
    )
    loop, ready = load_engine(start, on_phase=lambda _: None, load=load)
    [(network, backend)] = loaded
    paged = PagedNetwork(
        network,
        page_tokens=options.page_tokens,
        max_tokens=longest,
        device=backend.device,
        dtype=backend.dtype,
    )
    dtype: Any = ready.dtype
    tolerance = options.tolerance(dtype)
    answers = engine_tokens(loop, network, cases)
    return Parity(
        folder=folder,
        device=ready.device,
        dtype=dtype,
        tolerance=tolerance,
        cases=[_result(case, paged, answers[case.name], options, tolerance) for case in cases],
        left_out=left_out,
    )


def unreadable(golden: GoldenFolder, case: str, spec: ModelSpec) -> str | None:
    """Return why a case cannot be asked here; None where it can."""
    if golden.find(PIXELS, case) is None:
        return None
    if spec.vision is None or clip_of(golden, case, spec.vision) is None:
        return "a video, which this family reads as pictures or not at all"
    return "pictures beside a video" if golden.find("image_grid_thw", case) is not None else None


def _result(
    case: Case, paged: PagedNetwork, engine: EngineTokens, options: ParityOptions, tolerance: Tolerance
) -> CaseResult:
    rows = paged.image_rows(case.images)
    chunks = {"whole": len(case.token_ids), "chunked": options.chunk_tokens}
    logits = {path: paged.logits(case, rows, chunk=chunk) for path, chunk in chunks.items()}
    decoded = {path: paged.decoded(case, rows, chunk=chunk).cpu() for path, chunk in chunks.items()}
    tokens = {path: chosen(logits_SV, case.greedy, tolerance) for path, logits_SV in decoded.items()}
    for path, ours in (("engine", engine.first), ("cached", engine.again)):
        tokens[path] = said(ours, case.greedy, decoded["chunked"], tolerance)
    full_pages = (len(case.token_ids) - 1) // options.page_tokens
    return CaseResult(
        name=case.name,
        num_tokens=len(case.token_ids),
        num_images=len(case.images),
        pixels=_pixels(case, options.tolerance("float32")),
        rows=_rows(case, rows, tolerance),
        logits={
            path: difference(found[list(case.logit_positions)], case.logits_RV, tolerance)
            for path, found in logits.items()
        },
        tokens=tokens,
        cached_tokens=engine.cached_tokens,
        cache_holds=(engine.cached_tokens > 0) == (full_pages > 0),
    )


def _rows(case: Case, rows: dict[bytes, Tensor], tolerance: Tolerance) -> Difference | None:
    if case.rows_MH is None:
        return None
    ours = torch.cat([rows[image.key] for image in case.images])[:: case.row_step]
    return difference(ours, case.rows_MH, tolerance)


def _pixels(case: Case, tolerance: Tolerance) -> Difference | None:
    """Compare what the processor computes in float32, whatever the engine computes in."""
    if not case.pixels:
        return None
    ours, theirs = (
        torch.cat([torch.from_numpy(of).flatten() for of in side]) for side in zip(*case.pixels, strict=True)
    )
    return difference(ours, theirs, tolerance)


def _for_prompts_of(spec: ModelSpec, num_tokens: int) -> ModelSpec:
    """Return the spec with room for prompts beyond the trained length, where rotary stretching is tried."""
    room = max(spec.decoder.max_positions, num_tokens)
    return replace(spec, decoder=replace(spec.decoder, max_positions=room))


def _small(engine: EngineOptions, options: ParityOptions, *, longest: int, num_cases: int) -> EngineOptions:
    """Return the engine's options with room for these cases and no more, cut as asked."""
    pages = -(-longest // options.page_tokens) + 1
    kv = replace(
        engine.kv, page_tokens=options.page_tokens, num_pages=2 * num_cases * pages, prefix_caching=True
    )
    scheduler = replace(
        engine.scheduler,
        max_batch_size=num_cases,
        max_prefill_token_num=options.chunk_tokens,
        num_tokens_per_iter=None,
        session_len=None,
    )
    return replace(engine, kv=kv, scheduler=scheduler)
