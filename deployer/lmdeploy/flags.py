"""What each flag of LMDeploy that serves or chats is here, as data.

Flags and their meaning: LMDeploy 0.5.3 (`lmdeploy serve api_server -h`, `serve gradio -h`, `chat -h`) and
those added up to 0.15. A flag is read with dashes or underscores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

# switch: takes no value; one: takes one; many: takes all up to the next flag.
Arity = Literal["switch", "one", "many"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag:
    """One flag: a key of ours that takes its value, a table of values, or a reason why there is neither."""

    arity: Arity = "one"
    key: str | None = None  # takes the value as it is; of a switch: true
    words: Mapping[str, str] | None = None  # value -> overrides; "" where it asks for what is so anyway
    unnamed: str | None = None  # name of a value that is no `name=value`
    note: str | None = None  # what to know of it
    dead: str | None = None  # since when, or where, it has no effect in LMDeploy itself


NO_REMOTE_CODE = "no code of a checkpoint runs here, and none is needed"
ONE_ENGINE = (
    "data, context and expert parallelism and several machines are not there; a server a copy of the model"
)
_PARALLEL = ("dp", "ep", "cp", "nnodes", "node-rank", "dist-init-addr")
_NO_DRAFTS = (
    "no model drafts tokens; engine.speculative_num_draft_tokens has them proposed from a sequence's own text"
)
_NOT_HERE = {
    "communicator": "sums over GPUs are kernels of our own where they are small, else NCCL's",
    "distributed-executor-backend": "ranks are processes of one machine that the engine starts",
    "qos-config-path": "classes of service are server.qos (docs/serving.md); LMDeploy removed them in 0.6",
    "proxy-url": "there is no proxy to register with; put a balancer before the servers, /ready tells it",
    "max-log-len": "prompts are not logged at all",
    "generation-config": "defaults of requests stand in the group `sampling`",
    "hf-overrides": "single keys of config.json are set with model.hyper_parameters.<key>=<value>",
    "tool-call-parser": "calls of tools are told by the model's chat template",
    "reasoning-parser": "thinking is not split from the answer",
    "logprobs-mode": "logprobs are those of the raw logits, and are there where a request asks",
    "speculative-algorithm": _NO_DRAFTS,
    "speculative-draft-model": _NO_DRAFTS,
    "role": "prefill and decode run in one engine",
    "migration-backend": "prefill and decode run in one engine",
    "kernel-block-size": "pages have one size, engine.cache_block_seq_len",
}  # fmt: skip
_MANY_NOT_HERE = {
    "allow-methods": "the methods that the API has are allowed",
    "allow-headers": "the headers that the API reads are allowed",
    "cudagraph-capture-batch-sizes": "graphs are recorded for the sizes up to engine.max_batch_size",
}
_SWITCHES_NOT_HERE = {
    "allow-credentials": "browsers' credentials are not taken; keys go into the authorization header",
    "eager-mode": "engine=pytorch runs without graphs, engine=turbomind records them",
    "disable-fastapi-docs": "/openapi.json stays; put a proxy before the server to hide it",
    "allow-terminate-by-client": "no client ends the server; send it SIGTERM",
    "enable-abort-handling": "closing the connection aborts a request",
    "enable-microbatch": "there are no micro-batches",
    "enable-eplb": ONE_ENGINE,
    "disable-metrics": "/metrics is always there",
    "language-model-only": "a vision tower is loaded with its model",
}
DTYPES = {"auto": "", "float16": "engine.dtype=float16", "bfloat16": "engine.dtype=bfloat16"}
DEVICES = {
    "cuda": "engine.device_type=cuda",
    "cpu": "engine.device_type=cpu",
    "npu": "engine.device_type=npu",
    "ascend": "engine.device_type=npu",
}

MODEL: Mapping[str, Flag] = {
    "revision": Flag(key="model.revision"),
    "download-dir": Flag(key="model.download_dir"),
    "trust-remote-code": Flag(arity="switch", words={"true": ""}, note=NO_REMOTE_CODE),
}
ENGINE: Mapping[str, Flag] = {
    **MODEL,
    "backend": Flag(words={"turbomind": "engine=turbomind", "pytorch": "engine=pytorch"}),
    "device": Flag(words=DEVICES),
    "dtype": Flag(words=DTYPES),
    "tp": Flag(key="engine.tp"),
    "session-len": Flag(key="engine.session_len"),
    "max-batch-size": Flag(key="engine.max_batch_size"),
    "cache-max-entry-count": Flag(key="engine.cache_max_entry_count"),
    "cache-block-seq-len": Flag(key="engine.cache_block_seq_len"),
    "enable-prefix-caching": Flag(arity="switch", key="engine.enable_prefix_caching"),
    "max-prefill-token-num": Flag(key="engine.max_prefill_token_num"),
    "model-format": Flag(
        words={
            "hf": "",
            "llama": "",
            "awq": "quantization=awq",
            "gptq": "quantization=gptq",
            "fp8": "quantization=fp8",
        }
    ),
    "quant-policy": Flag(
        words={
            "0": "",
            "4": "quantization.kv=int4",
            "8": "quantization.kv=int8",
            "16": "quantization.kv=fp8",
            "17": "quantization.kv=fp8",
        }
    ),
    "speculative-num-draft-tokens": Flag(
        key="engine.speculative_num_draft_tokens", note="from the sequence's own text, not a model's drafts"
    ),
    "rope-scaling-factor": Flag(key="engine.rope_scaling_factor", dead="since 0.14"),
    "num-tokens-per-iter": Flag(key="engine.num_tokens_per_iter", dead="since 0.12"),
    "max-prefill-iters": Flag(key="engine.max_prefill_iters", dead="since 0.12"),
    "cache-chunk-size": Flag(note="pages are allocated at once", dead="at any version that reads it"),
    "thread-safe": Flag(arity="switch", note="every client of the engine is safe", dead="since 0.6"),
    "async": Flag(note="scheduling beside the device's work is always on"),
    "adapters": Flag(
        arity="many", key="engine.adapters", unnamed="default", note="a request asks for one as its `model`"
    ),
    "chat-template": Flag(note="read in translate.py: a name or a JSON file"),
    "vision-max-batch-size": Flag(key="vision.max_batch_size"),
    **{name: Flag(note=ONE_ENGINE) for name in _PARALLEL},
    **{name: Flag(note=note) for name, note in _NOT_HERE.items()},
    **{name: Flag(arity="many", note=note) for name, note in _MANY_NOT_HERE.items()},
    **{name: Flag(arity="switch", note=note) for name, note in _SWITCHES_NOT_HERE.items()},
}
API_SERVER: Mapping[str, Flag] = {
    **ENGINE,
    "server-name": Flag(key="server.host"),
    "server-port": Flag(key="server.port"),
    "allow-origins": Flag(arity="many", key="server.cors_origins"),
    "api-keys": Flag(arity="many", key="server.api_keys", note="better in a file: server.api_keys_file=FILE"),
    "ssl": Flag(
        arity="switch",
        words={"true": "server.ssl_keyfile=${oc.env:SSL_KEYFILE} server.ssl_certfile=${oc.env:SSL_CERTFILE}"},
    ),
    "model-name": Flag(key="server.model_name"),
    "log-level": Flag(
        words={
            "CRITICAL": "server.log_level=error",
            "FATAL": "server.log_level=error",
            "ERROR": "server.log_level=error",
            "WARN": "server.log_level=warning",
            "WARNING": "server.log_level=warning",
            "INFO": "",
            "DEBUG": "server.log_level=debug",
            "NOTSET": "server.log_level=debug",
        }
    ),
    "max-concurrent-requests": Flag(key="server.max_requests"),
    "allowed-media-domains": Flag(
        arity="many", key="vision.allowed_domains", note="subdomains are included here"
    ),
}
CHAT: Mapping[str, Flag] = {
    **ENGINE,
    "meta-instruction": Flag(key="chat_template.meta_instruction"),
    "cap": Flag(
        words={
            "chat": "",
            "completion": "chat_template.capability=completion",
        }
    ),
}
GRADIO: Mapping[str, Flag] = {
    **{name: API_SERVER[name] for name in (*ENGINE, "server-name", "model-name", "api-keys", "ssl")},
    "server-port": Flag(key="server.gradio_port", note="of the chat; the API has server.port"),
    "share": Flag(arity="switch", note="no tunnel is opened; put a proxy before the chat"),
}
