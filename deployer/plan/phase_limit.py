"""The least time that a device needs for what an engine's steps had to do, by the planner's arithmetic."""

from deployer.plan.decoder_work import DecoderWork
from deployer.plan.rates import Rates
from engines.stats import PhaseFigures


def phase_limit_s(work: DecoderWork, limits: Rates, done: PhaseFigures) -> float:
    """Return seconds below which no such device does what a phase did.

    linear     max(steps * bytes of layers and head / bandwidth, 2 * weights * rows / rate); of layers with
               a second copy the bytes of that, which is the least
    attention  max(keys * KV bytes a token / bandwidth, pairs * operations a pair / rate)

    The maxima are of the sums over steps, so a mix of small and large steps has a lower limit than each
    alone. What ranks send each other is left out.
    """
    step_bytes = work.layer_bytes + work.head_bytes - work.saved_bytes
    stream_s = done.steps * step_bytes / limits.bytes_per_s
    layers_s = 2 * done.rows * work.layer_weights / limits.layer_flops_per_s
    head_s = 2 * done.sampled * work.head_weights / limits.flops_per_s
    read_s = done.keys * work.kv_token_bytes / limits.bytes_per_s
    pairs_s = done.pairs * work.flops_per_pair / limits.flops_per_s
    return max(stream_s, layers_s + head_s) + max(read_s, pairs_s)
