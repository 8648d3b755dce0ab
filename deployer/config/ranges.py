"""The range of every number in the tree, as one table."""

from collections.abc import Mapping
from dataclasses import dataclass

from deployer.config.rule import Complaints
from deployer.config.schema import DeployConfig
from deployer.config.unbuilt import Unbuilt
from engines.options import MOST_GRAMMAR_ROWS


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Which numbers a key may hold."""

    low: float
    high: float | None = None
    above: bool = False  # `low` itself is out

    def holds(self, value: float) -> bool:
        """Tell whether a value is inside."""
        return (value > self.low or (value == self.low and not self.above)) and (
            self.high is None or value <= self.high
        )

    def rule(self) -> str:
        """Return the rule as a message says it."""
        low = f"above {self.low:.10g}" if self.above else f"at least {self.low:.10g}"
        return f"must be {low}" if self.high is None else f"must be {low} and at most {self.high:.10g}"


POSITIVE = Range(low=1)
NOT_NEGATIVE = Range(low=0)
ABOVE_ZERO = Range(low=0, above=True)
SHARE = Range(low=0, high=1)
PORT = Range(low=0, high=65535)
A_MEBIBYTE = Range(low=1 << 20)

RANGES: dict[str, Range] = {
    "engine.tp": POSITIVE,
    "engine.decode_weights": SHARE,
    "engine.session_len": POSITIVE,
    "engine.max_batch_size": Range(low=1, high=65536),  # a step of each size is recorded up to it
    "engine.num_gpu_blocks": POSITIVE,
    "engine.max_prefill_token_num": POSITIVE,
    "engine.num_tokens_per_iter": POSITIVE,
    "engine.max_prefill_iters": POSITIVE,
    "engine.speculative_num_draft_tokens": NOT_NEGATIVE,
    "engine.speculative_match_tokens": Range(low=1, high=64),  # of a longer run few stand twice in any text
    "engine.speculative_max_sequences": POSITIVE,
    "engine.speculative_grammar_tokens": Range(low=0, high=MOST_GRAMMAR_ROWS - 1),  # one row is its own
    "engine.rope_scaling_factor": POSITIVE,
    "engine.start_timeout_s": ABOVE_ZERO,
    "engine.step_timeout_s": ABOVE_ZERO,
    "engine.max_restarts": NOT_NEGATIVE,
    "vision.min_tiles": POSITIVE,
    "vision.max_tiles": Range(low=1, high=1024),  # every grid of so many is tried for a picture
    "vision.min_pixels": POSITIVE,
    "vision.max_pixels": POSITIVE,
    "vision.max_batch_size": POSITIVE,
    "vision.tiles_per_iter": POSITIVE,
    "vision.cache_bytes": NOT_NEGATIVE,
    "vision.uncut_pixels": Range(low=0, high=1 << 28),  # 1 GiB each
    "vision.preprocess_workers": NOT_NEGATIVE,
    "vision.max_images": NOT_NEGATIVE,
    "vision.max_image_bytes": POSITIVE,
    "vision.max_image_pixels": POSITIVE,
    "vision.max_videos": NOT_NEGATIVE,
    "vision.max_video_frames": POSITIVE,
    "vision.max_video_bytes": POSITIVE,
    "vision.video_frames": POSITIVE,
    "vision.video_fps": ABOVE_ZERO,
    "vision.video_timeout_s": ABOVE_ZERO,
    "vision.fetch_timeout_s": ABOVE_ZERO,
    "vision.max_redirects": NOT_NEGATIVE,
    "sampling.temperature": Range(low=0, high=2),  # as a request may have them
    "sampling.top_p": Range(low=0, high=1, above=True),
    "sampling.top_k": NOT_NEGATIVE,
    "sampling.min_p": SHARE,
    "sampling.repetition_penalty": Range(low=0, high=10, above=True),
    "sampling.max_new_tokens": POSITIVE,
    "server.port": PORT,
    "server.grpc_port": PORT,
    "server.gradio_port": PORT,
    "server.processes": Range(low=1, high=64),
    "server.max_requests": POSITIVE,
    "server.target_ttft_ms": ABOVE_ZERO,
    "server.target_token_ms": ABOVE_ZERO,
    "server.target_share": Range(low=0, high=1, above=True),
    "server.target_room": Range(low=0, high=1, above=True),
    "server.target_cut": Range(low=0, high=1, above=True),
    "server.target_first_places": POSITIVE,
    "server.target_window": POSITIVE,
    "server.max_body_bytes": POSITIVE,
    "server.body_timeout_s": ABOVE_ZERO,
    "server.max_stored_bytes": NOT_NEGATIVE,
    "server.keep_alive_s": ABOVE_ZERO,
    "server.drain_s": NOT_NEGATIVE,
    "server.otel_sample_ratio": SHARE,
    "target.host_port": Range(low=1, high=65535),
    "target.memory_max_bytes": A_MEBIBYTE,
    "target.min_replicas": POSITIVE,
    "target.max_replicas": POSITIVE,
    "target.in_flight_per_replica": POSITIVE,
    "target.gpus_per_node": POSITIVE,
    "target.cpus_per_rank": NOT_NEGATIVE,
    "target.server_bytes": A_MEBIBYTE,
    "target.rank_bytes": NOT_NEGATIVE,
    "target.shm_bytes": A_MEBIBYTE,
    "target.cache_bytes": A_MEBIBYTE,
    "target.download_gbps": ABOVE_ZERO,
    "target.retries": NOT_NEGATIVE,
    "target.front_replicas": POSITIVE,
    "target.request_timeout_s": ABOVE_ZERO,
}


def range_faults(group: str, options: object, allowed: Mapping[str, Range]) -> list[str]:
    """Return a message for each field of a verb's own group that is out of its range; None never is."""
    return [
        f"{group}.{name}={value}: {span.rule()}"
        for name, span in allowed.items()
        if (value := getattr(options, name)) is not None and not span.holds(value)
    ]


def out_of_range(config: DeployConfig) -> Complaints:
    """Yield the key and the rule of each number that is out of its range."""
    for key, allowed in RANGES.items():
        group, _, name = key.partition(".")
        holder = getattr(config, group)
        if isinstance(holder, Unbuilt) or not hasattr(holder, name):  # a target has the keys of its kind
            continue
        value = getattr(holder, name)
        if value is not None and not isinstance(value, Unbuilt) and not allowed.holds(value):
            yield key, allowed.rule()
