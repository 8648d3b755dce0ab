"""One rank's forward pass: encode the images of a step, run the decoder, sample, bring the tokens back.

A step is `launch`, which only queues work on the device, and `fetch`, which waits for it; a loop that
overlaps steps calls them apart. Which networks and ops run is none of its business.

Legend: M image rows, H hidden.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Seq
from functools import partial

import torch
from torch import Tensor

from engines.memory.encoder_cache import EncoderCache
from engines.network import ChoosingNetwork, Network
from engines.ops import KvLayer
from engines.options import VisionOptions
from engines.sampling.next_token import sample
from engines.sampling.penalties import TokenCounts
from engines.sampling.plain_rows import plain_rows
from engines.sampling.prompt_scores import PromptScores, prompt_scores
from engines.sampling.sampling_rows import sampling_rows
from engines.schedule.batch_plan import BatchPlan, Chunk
from engines.schedule.sequence import ImageSlots
from engines.steps.batch import step_input, touched_images
from engines.steps.decode_rows import DecodeRows, decode_rows, is_decode
from engines.steps.host_copy import HostCopy
from engines.steps.launched import Encoding, Launched, LogprobsCopy, TokenChoice, add_logprobs, on_the_way
from engines.steps.step import StepInput
from engines.steps.step_clock import Phase, step_clock

Chosen = tuple[Tensor | None, LogprobsCopy | None, PromptScores | None]


class Runner:
    """A network, its pages and its encoder outputs on one device."""

    def __init__(
        self,
        network: Network,
        kv: Seq[KvLayer],
        *,
        device: torch.device,
        max_batch_size: int,
        vision: VisionOptions,
        recorded: ChoosingNetwork | None = None,
        counts: TokenCounts | None = None,
    ) -> None:
        """`recorded`: the network again, where it goes from steps straight to their tokens by `counts`."""
        self._network = network
        self._recorded = recorded
        self._kv = kv
        self._device = device
        self._head_rows = max_batch_size  # as many as the rehearsal measured
        self._vision = vision
        self._page_tokens = kv[0].page_tokens
        self._vocab = network.spec.decoder.vocab
        self._counts = counts or TokenCounts(max_sequences=max_batch_size, vocab=self._vocab, device=device)
        self._images = EncoderCache(vision.cache_bytes)
        # What the step before samples; the vocabulary's size for a NaN.
        self._last_ids_S: Tensor | None = None
        self._clock = step_clock(device)
        self.wait_s = 0.0
        self.images_encoded = 0
        self.encoder_cache_hits = 0

    @property
    def phase_s(self) -> dict[Phase, float]:
        """Seconds that the device worked on each phase."""
        return self._clock.phase_s

    @property
    def gap_s(self) -> float:
        """Seconds that the device waited between steps while there was work."""
        return self._clock.gap_s

    def rest(self) -> None:
        """Say that no step follows for now."""
        self._clock.rest()

    def run(self, plan: BatchPlan) -> list[TokenChoice]:
        """Run one step and return a choice for each chunk of `plan.sampling`."""
        return self.fetch(self.launch(plan))

    @torch.inference_mode()
    def launch(self, plan: BatchPlan) -> Launched:
        """Queue a step on the device; it may be scheduled before the one before it was fetched."""
        features, encoding = self._features(plan)
        run, rows = self._prepared(plan, features)
        self._clock.begin("decode" if plan.num_decodes == len(plan.chunks) else "prefill")
        ids_S, logprobs, scores = run()
        self._images.trim(_unfinished(plan))
        self._clock.end()
        ids = None
        if ids_S is not None:
            self._last_ids_S = ids_S
            ids = HostCopy(ids_S, copy=None if self._recorded is None else self._recorded.copy_ids)
        return Launched(
            plan=plan, ids_S=ids, logprobs=logprobs, scores=scores, encoding=encoding, read_by_device=rows
        )

    def _prepared(
        self, plan: BatchPlan, features: Mapping[bytes, Tensor]
    ) -> tuple[Callable[[], Chosen], DecodeRows | None]:
        """Lay a step out; return what launches it, and the rows that it replays."""
        by_prompt = self._network.spec.decoder.rope.by_prompt
        if self._recorded is not None and is_decode(plan):
            rows = decode_rows(
                plan,
                page_tokens=self._page_tokens,
                rope_by_prompt=by_prompt,
                last_ids_S=self._last_ids_S,
                pinned=self._device.type == "cuda",
            )
            return partial(self._replayed, plan, rows, self._recorded), rows
        last_ids_S = self._kept_ids()
        step = step_input(
            plan,
            page_tokens=self._page_tokens,
            device=self._device,
            features=features,
            rope_by_prompt=by_prompt,
            last_ids_S=last_ids_S,
        )
        return partial(self._chosen, plan, step, last_ids_S), None

    def _kept_ids(self) -> Tensor | None:
        """Return what the step before samples, ids of the vocabulary that outlast the next replay."""
        return None if self._last_ids_S is None else self._last_ids_S.clamp(max=self._vocab - 1)

    def _replayed(self, plan: BatchPlan, rows: DecodeRows, recorded: ChoosingNetwork) -> Chosen:
        """Replay a step; where a row is not plain, all are chosen by the logits that it leaves."""
        chunks = plan.sampling
        plain = plain_rows(chunks, self._counts, self._vocab, last_ids_S=rows.last_ids_S)
        if plain is not None:
            return recorded.replay(rows, plain).ids_S, None, None
        last_ids_S = self._kept_ids()
        ids_S, logprobs = self._sampled(chunks, recorded.replay(rows, None).logits_SV, last_ids_S)
        return ids_S, logprobs, None

    def _chosen(self, plan: BatchPlan, step: StepInput, last_ids_S: Tensor | None) -> Chosen:
        """Run the network and choose the tokens of the sampled rows; None where there are none.

        A step that scores prompts has rows of the head that choose nothing.
        """
        chunks = plan.sampling
        if self._recorded is not None and chunks and not plan.scored:
            plain = plain_rows(chunks, self._counts, self._vocab, last_ids_S=last_ids_S)
            if plain is not None:
                return self._recorded.choose(step, plain), None, None
        hidden_SH = self._network.hidden(step, self._kv)
        scores = None
        if plan.scored:
            scored_RH = hidden_SH[len(chunks) :]
            scores = prompt_scores(self._network, scored_RH, plan.scoring, rows_at_once=self._head_rows)
            hidden_SH = hidden_SH[: len(chunks)]
        if not chunks:
            return None, None, scores
        return *self._sampled(chunks, self._network.logits(hidden_SH), last_ids_S), scores

    def _sampled(
        self, chunks: Seq[Chunk], logits_SV: Tensor, last_ids_S: Tensor | None
    ) -> tuple[Tensor, LogprobsCopy | None]:
        rows = sampling_rows(chunks, self._counts, self._vocab, last_ids_S=last_ids_S)
        sampled = sample(logits_SV, rows)
        return sampled.ids_S, None if sampled.logprobs is None else on_the_way(sampled.logprobs, rows)

    def fetch(self, launched: Launched) -> list[TokenChoice]:
        """Wait for a step and return what it sampled."""
        started = time.perf_counter()
        ids = [] if launched.ids_S is None else launched.ids_S.wait().tolist()
        self.wait_s += time.perf_counter() - started
        self._clock.done()
        choices = [TokenChoice(token if token < self._vocab else None) for token in ids]
        if launched.logprobs is not None:
            add_logprobs(choices, launched.plan, launched.logprobs)
        return choices

    def check_device(self) -> None:
        """Raise what the device raises where it can no longer compute, as after an illegal access."""
        if self._device.type != "cpu":
            torch.get_device_module(self._device).empty_cache()  # the step may have run out of memory
        torch.ones(1, device=self._device).add_(1).item()

    def _features(self, plan: BatchPlan) -> tuple[dict[bytes, Tensor], Encoding | None]:
        """Return the rows of every image of the step, encoding those that are not here."""
        prompts = plan.chunks[plan.num_decodes :]
        images = {image.key: image for chunk in prompts for image in touched_images(chunk)}
        features: dict[bytes, Tensor] = {}
        missing: list[ImageSlots] = []
        for key, image in images.items():
            rows_MH = self._images.get(key)
            if rows_MH is None:
                missing.append(image)
            else:
                features[key] = rows_MH
        self.encoder_cache_hits += len(features)
        if not missing:
            return features, None
        span = self._clock.begin("encode")
        for image, rows_MH in zip(missing, self._encode(missing), strict=True):
            self._images.put(image.key, rows_MH)
            features[image.key] = rows_MH
        return features, Encoding(keys=frozenset(image.key for image in missing), span=span)

    def _encode(self, images: Seq[ImageSlots]) -> Iterable[Tensor]:
        """Return [M, H] of each image; tiles of several images share encoder passes."""
        pixels = [image.pixels for image in images if image.pixels is not None]
        assert len(pixels) == len(images), "an image without pixels reached the encoder"
        self.images_encoded += len(images)
        return self._network.encode_images(pixels, max_tiles=self._vision.max_batch_size)


def _unfinished(plan: BatchPlan) -> set[bytes]:
    """Return the images whose rows go on in a later chunk."""
    return {
        image.key
        for chunk in plan.chunks[plan.num_decodes :]
        for image in touched_images(chunk)
        if image.end > chunk.end
    }
