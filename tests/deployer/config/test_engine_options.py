from deployer.config import load_config
from deployer.config.devices import EngineChoice
from deployer.config.engine_options import engine_options
from engines.options import EngineOptions, SpeculationOptions

CHOICE = EngineChoice(kind="pytorch", device="cpu", reason=None)
ON_A_GPU = EngineChoice(kind="pytorch", device="cuda", reason=None)


def options(*words: str, choice: EngineChoice = CHOICE) -> EngineOptions:
    return engine_options(load_config(["+model=internvl2_8b", *words]), choice)


def test_every_key_of_the_engine_reaches_its_option() -> None:
    found = options(
        "engine.dtype=float16",
        "engine.tp=2",
        "engine.load_format=random",
        "engine.session_len=1000",
        "engine.max_batch_size=5",
        "engine.cache_max_entry_count=0.3",
        "engine.cache_block_seq_len=32",
        "engine.num_gpu_blocks=77",
        "engine.enable_prefix_caching=false",
        "engine.max_prefill_token_num=99",
        "engine.num_tokens_per_iter=111",
        "engine.max_prefill_iters=3",
        "engine.rope_scaling_factor=2",
        "engine.use_logn_attn=true",
        "engine.step_timeout_s=9",
        "vision.max_batch_size=6",
        "vision.cache_bytes=8",
        "vision.tiles_per_iter=7",
    )
    assert (found.dtype, found.tp, found.rope_scaling_factor, found.step_timeout_s) == (
        "float16",
        2,
        2.0,
        9.0,
    )
    assert found.load_format == "random"
    assert found.use_logn_attn is True
    assert (found.kv.format, found.kv.page_tokens, found.kv.num_pages) == ("none", 32, 77)
    assert (found.kv.memory, found.kv.prefix_caching) == (0.3, False)
    scheduler = found.scheduler
    assert (scheduler.session_len, scheduler.max_batch_size, scheduler.max_prefill_iters) == (1000, 5, 3)
    assert (scheduler.max_prefill_token_num, scheduler.num_tokens_per_iter) == (99, 111)
    assert scheduler.tiles_per_iter == 7
    assert (found.vision.max_batch_size, found.vision.cache_bytes) == (6, 8)


def test_proposals_are_none_or_have_all_their_options() -> None:
    assert options("engine.speculative_grammar_tokens=0").scheduler.speculation is None
    for_grammars = options("engine.speculative_grammar_tokens=6").scheduler.speculation
    assert for_grammars is not None and (for_grammars.num_tokens, for_grammars.grammar_tokens) == (0, 6)
    found = options(
        "engine.speculative_num_draft_tokens=5",
        "engine.speculative_match_tokens=2",
        "engine.speculative_max_sequences=8",
        "engine.speculative_grammar_tokens=6",
    )
    assert found.scheduler.speculation == SpeculationOptions(
        num_tokens=5, match_tokens=2, max_sequences=8, grammar_tokens=6
    )


def test_only_a_gpu_cuts_pictures() -> None:
    asked = ("vision.uncut_pixels=1000",)
    assert options(*asked, choice=ON_A_GPU).vision.uncut_pixels == 1000
    assert options(*asked).vision.uncut_pixels == 0


def test_only_turbomind_keeps_weights_in_12_bits() -> None:
    asked = ("engine=auto", "engine.decode_weights=0.25")
    kernels = EngineChoice(kind="turbomind", device="cuda", reason=None)
    assert options(*asked, choice=kernels).decode_weights == 0.25
    assert options(*asked, choice=ON_A_GPU).decode_weights == 0


def test_the_choice_replaces_auto() -> None:
    assert (options().kind, options().device) == ("pytorch", "cpu")
