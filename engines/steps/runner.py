"""One rank's forward pass: encode the images of a step, run the decoder, sample, bring the tokens back.

A step is `launch` and `choose`, which only queue work on the device, and `fetch`, which waits for it; a loop
that overlaps steps calls them apart. Which networks and ops run is none of its business.

Legend: M image rows, H hidden.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Seq
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from engines.memory.encoder_cache import EncoderCache
from engines.network import ChoosingNetwork, Network
from engines.ops import KvLayer
from engines.options import VisionOptions
from engines.sampling.choice_rows import choice_rows
from engines.sampling.masks_at_once import MasksAtOnce
from engines.sampling.next_token import row_logprobs, sample
from engines.sampling.penalties import TokenCounts
from engines.sampling.prompt_scores import prompt_scores
from engines.sampling.sampling_rows import logprob_rows, sampling_rows
from engines.schedule.batch_plan import BatchPlan
from engines.schedule.sequence import ImageSlots
from engines.steps.batch import step_input, touched_images
from engines.steps.decode_rows import DecodeRows, decode_rows, is_decode
from engines.steps.host_copy import HostCopy
from engines.steps.launched import Encoding, Launched, TokenChoice, add_logprobs, on_the_way
from engines.steps.step import StepInput
from engines.steps.step_clock import Phase, step_clock

logger = logging.getLogger(__name__)


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
        self._masks = MasksAtOnce()
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
        return self.fetch(self.choose(self.launch(plan)))

    @torch.inference_mode()
    def launch(self, plan: BatchPlan) -> Launched:
        """Queue a step on the device; it may be scheduled before the one before it was fetched.

        Where `plan.is_chosen_late` its tokens are not chosen yet: `choose` comes before any other launch.
        """
        features, encoding = self._features(plan)
        run = self._prepared(plan, features)
        self._clock.begin("decode" if plan.num_decodes == len(plan.chunks) else "prefill")
        launched = replace(run(), encoding=encoding)
        self._images.trim(_unfinished(plan))
        self._clock.end()
        return launched

    @torch.inference_mode()
    def choose(self, launched: Launched) -> Launched:
        """Queue what `launch` left out; the tokens of the step before are in their sequences by now."""
        if launched.logits_SV is None:
            return launched
        return replace(self._chosen(launched, launched.logits_SV, last_ids_S=None), logits_SV=None)

    def _prepared(self, plan: BatchPlan, features: Mapping[bytes, Tensor]) -> Callable[[], Launched]:
        """Lay a step out; return what launches it."""
        by_prompt = self._network.spec.decoder.rope.by_prompt
        if self._recorded is not None and is_decode(plan):
            rows = decode_rows(
                plan,
                page_tokens=self._page_tokens,
                rope_by_prompt=by_prompt,
                last_ids_S=self._last_ids_S,
                pinned=self._device.type == "cuda",
            )
            return partial(self._replayed, plan, rows, self._recorded)
        last_ids_S = self._kept_ids()
        step = step_input(
            plan,
            page_tokens=self._page_tokens,
            device=self._device,
            features=features,
            rope_by_prompt=by_prompt,
            last_ids_S=last_ids_S,
        )
        return partial(self._run, plan, step, last_ids_S)

    def _kept_ids(self) -> Tensor | None:
        """Return what the step before samples, ids of the vocabulary that outlast the next replay."""
        return None if self._last_ids_S is None else self._last_ids_S.clamp(max=self._vocab - 1)

    def _replayed(self, plan: BatchPlan, rows: DecodeRows, recorded: ChoosingNetwork) -> Launched:
        """Replay a step, its choice with it where that can be told now."""
        launched = Launched(plan=plan, read_by_device=rows)
        if plan.is_chosen_late:
            return replace(launched, logits_SV=recorded.replay(rows, None).logits_SV)
        how = choice_rows(plan.sampling, self._counts, self._vocab, last_ids_S=rows.last_ids_S)
        return self._copied(launched, *recorded.replay(rows, how))

    def _run(self, plan: BatchPlan, step: StepInput, last_ids_S: Tensor | None) -> Launched:
        """Run the network and choose the tokens of the sampled rows, where there are some.

        A step that scores prompts has rows of the head that choose nothing.
        """
        launched, num = Launched(plan=plan), len(plan.sampled)
        hidden_SH = self._network.hidden(step, self._kv)
        if plan.scored:
            scored_RH = hidden_SH[num:]
            scores = prompt_scores(self._network, scored_RH, plan.scoring, rows_at_once=self._head_rows)
            launched, hidden_SH = replace(launched, scores=scores), hidden_SH[:num]
        if not num:
            return launched
        logits_SV = self._network.logits(hidden_SH)
        if plan.is_chosen_late:
            return replace(launched, logits_SV=logits_SV)
        return self._chosen(launched, logits_SV, last_ids_S=last_ids_S)

    def _chosen(self, launched: Launched, logits_SV: Tensor, *, last_ids_S: Tensor | None) -> Launched:
        chunks = launched.plan.sampling
        self._masks.make(chunks)
        if self._recorded is None:
            rows = sampling_rows(chunks, self._counts, self._vocab, last_ids_S=last_ids_S)
            ids_S = sample(logits_SV, rows)
        else:
            how = choice_rows(chunks, self._counts, self._vocab, last_ids_S=last_ids_S)
            ids_S = self._recorded.choose(logits_SV, how)
        return self._copied(launched, logits_SV, ids_S)

    def _copied(self, launched: Launched, logits_SV: Tensor, ids_S: Tensor) -> Launched:
        """Begin to copy the tokens of a step, and log-probabilities where they are asked for."""
        self._last_ids_S = ids_S
        wanted = logprob_rows(launched.plan.sampling)
        return replace(
            launched,
            ids_S=HostCopy(ids_S, copy=None if self._recorded is None else self._recorded.copy_ids),
            logprobs=None if wanted is None else on_the_way(row_logprobs(logits_SV, ids_S, wanted), wanted),
        )

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

    def let_end(self, launched: Launched) -> None:
        """Wait for a step whose results nobody wants: until then the device writes to the host's memory.

        A device that raises is done with it as well.
        """
        try:
            self.fetch(launched)
            if launched.scores is not None:
                launched.scores.wait()
        except Exception as error:
            logger.warning("the step under way ended with its engine: %s", error)

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
