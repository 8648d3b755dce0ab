"""The validated tree -> what the runtime takes."""

from deployer.config.devices import EngineChoice
from deployer.config.schema import DeployConfig, EngineConfig
from engines.options import (
    EngineOptions,
    KvOptions,
    SchedulerOptions,
    ServiceClass,
    SpeculationOptions,
    VisionOptions,
)


def engine_options(config: DeployConfig, choice: EngineChoice) -> EngineOptions:
    """Return the options of the engine that was chosen; `choice` holds no `auto` any more."""
    engine = config.engine
    return EngineOptions(
        kind=choice.kind,
        device=choice.device,
        dtype=engine.dtype,
        tp=engine.tp,
        decode_weights=engine.decode_weights if choice.kind == "turbomind" else 0.0,
        load_format=engine.load_format,
        kv=KvOptions(
            format=config.quantization.kv,
            page_tokens=engine.cache_block_seq_len,
            num_pages=engine.num_gpu_blocks,
            memory=engine.cache_max_entry_count,
            prefix_caching=engine.enable_prefix_caching,
        ),
        scheduler=SchedulerOptions(
            max_batch_size=engine.max_batch_size,
            max_prefill_token_num=engine.max_prefill_token_num,
            num_tokens_per_iter=engine.num_tokens_per_iter,
            max_prefill_iters=engine.max_prefill_iters,
            tiles_per_iter=config.vision.tiles_per_iter,
            session_len=engine.session_len,
            classes=tuple(
                ServiceClass(name=one.name, priority=one.priority, share=one.share)
                for one in config.server.qos
            ),
            speculation=_speculation(engine),
        ),
        vision=VisionOptions(
            max_batch_size=config.vision.max_batch_size,
            cache_bytes=config.vision.cache_bytes,
            uncut_pixels=config.vision.uncut_pixels if choice.device == "cuda" else 0,
        ),
        rope_scaling_factor=engine.rope_scaling_factor,
        use_logn_attn=engine.use_logn_attn,
        step_timeout_s=engine.step_timeout_s,
    )


def _speculation(engine: EngineConfig) -> SpeculationOptions | None:
    if not (engine.speculative_num_draft_tokens or engine.speculative_grammar_tokens):
        return None
    return SpeculationOptions(
        num_tokens=engine.speculative_num_draft_tokens,
        match_tokens=engine.speculative_match_tokens,
        max_sequences=engine.speculative_max_sequences,
        grammar_tokens=engine.speculative_grammar_tokens,
    )
