"""The validated config tree: frozen, no defaults (they stand in `conf/`), plain values only.

`build.py` makes a `DeployConfig` from what Hydra composed; everything below it receives this or a part of it.
Group `x` of `conf/` is field `x` here; `engine_options.py` turns it into what the runtime takes.
"""

from dataclasses import dataclass
from typing import Any, Literal

from deployer.config.targets import TargetConfig
from engines.options import ComputeDtype, DeviceType, EngineKind, KvFormat, LoadFormat


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Which checkpoint, and what is known of it before it is read."""

    name: str
    family: str | None  # key of engines/families; None: told by config.json (model=local)
    hub: Literal["huggingface", "modelscope", "folder", "package"]
    repo: str | None  # owner/name on the hub
    revision: str | None  # branch, tag or commit; None: the hub's default
    path: str | None  # folder on this machine; hub=package: name below deployer/models
    download_dir: str | None  # None: the hub client's own cache
    template: str | None  # chat template that the model was trained with, a name below chat_templates/
    hyper_parameters: dict[str, Any] | None  # of the checkpoint's config.json; None: read from the folder


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """How the engine runs; names are LMDeploy's where it has one."""

    kind: EngineKind
    device_type: DeviceType
    dtype: ComputeDtype
    tp: int
    decode_weights: float
    load_format: LoadFormat
    adapters: list[str]  # name=folder
    session_len: int | None
    max_batch_size: int
    cache_max_entry_count: float
    cache_block_seq_len: int
    num_gpu_blocks: int | None
    enable_prefix_caching: bool
    max_prefill_token_num: int
    num_tokens_per_iter: int | None
    max_prefill_iters: int
    speculative_num_draft_tokens: int
    speculative_match_tokens: int
    speculative_max_sequences: int
    speculative_grammar_tokens: int
    rope_scaling_factor: float | None
    use_logn_attn: bool | None
    start_timeout_s: float
    step_timeout_s: float
    max_restarts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizationConfig:
    """Number formats of weights and cache."""

    weights: Literal["auto", "none", "bf12", "awq", "gptq", "int8", "fp8"]  # auto: told by the checkpoint
    kv: KvFormat


@dataclass(frozen=True, kw_only=True, slots=True)
class VisionConfig:
    """Pictures: tiling, encoder, and what a request may ask for."""

    name: str | None  # timm model that is the tower; None: config.json names the tower
    min_tiles: int | None  # None: the checkpoint's own
    max_tiles: int | None
    thumbnail: bool | None
    min_pixels: int | None
    max_pixels: int | None
    max_batch_size: int
    tiles_per_iter: int | None  # None: all that a step's prompt tokens bring
    cache_bytes: int
    uncut_pixels: int
    preprocess_workers: int  # processes; 0: threads of the server
    max_images: int
    max_image_bytes: int
    max_image_pixels: int  # of a frame too
    max_videos: int
    max_video_frames: int
    max_video_bytes: int
    video_frames: int | None  # None: video_fps, else the model's own
    video_fps: float | None
    video_timeout_s: float
    fetch_timeout_s: float
    max_redirects: int
    allowed_domains: list[str] | None
    allow_private_addresses: bool
    file_root: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatTemplateConfig:
    """How messages become a prompt."""

    name: str  # chat_templates/<name>.jinja
    file: str | None  # a template of one's own instead, or a JSON of the fields below
    capability: Literal["chat", "completion"]
    meta_instruction: str | None  # system text; None: the template's own
    system: str | None  # before and behind system texts, questions and answers; None: the template's own
    eosys: str | None
    user: str | None
    eoh: str | None
    assistant: str | None
    eoa: str | None
    separator: str | None
    stop_words: list[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """What a request gets where it says nothing."""

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    max_new_tokens: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class QosClass:
    """One class of service."""

    name: str
    priority: int  # lower goes first to what nobody is owed
    share: float  # of places, batch slots and prompt tokens, what it is owed
    max_requests: int | None  # of it in flight; None: as many as there is room for


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """The HTTP front."""

    kind: Literal["openai"]
    host: str
    port: int
    processes: int  # that answer requests
    page: Literal["local", "always", "never"]  # the web page at /
    grpc_port: int | None  # KServe v2 over gRPC; None: not served
    gradio_port: int | None  # a Gradio chat; None: none
    model_name: str | None  # name in /v1/models; None: model.name
    api_keys: list[str]
    api_keys_file: str | None  # further keys, one a line
    admin_keys_file: str | None  # operators' keys; None: no /admin/
    otel_endpoint: str | None  # URL that takes traces over OTLP/HTTP; None: none are made
    otel_sample_ratio: float  # of the traces that begin here
    cors_origins: list[str]
    ssl_keyfile: str | None
    ssl_certfile: str | None
    max_requests: int  # running and waiting; one more is answered 429
    target_ttft_ms: float | None  # to the first token, of requests let in; None: no target
    target_token_ms: float | None  # a further token
    target_share: float  # of the requests, that must meet the targets
    target_room: float  # of a target: below it one more request is let in
    target_cut: float  # of the places that would just meet a missed target
    target_first_places: int
    target_window: int  # requests that judge a number of places, at least
    qos: list[QosClass]  # []: all requests are equal
    qos_default: str | None  # the class of a request whose key has none
    max_body_bytes: int
    body_timeout_s: float  # from the head of a request to the end of its body
    max_stored_bytes: int
    keep_alive_s: float  # of an idle connection
    drain_s: float
    allow_random_weights: bool
    log_level: Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DeployConfig:
    """One deployment."""

    model: ModelConfig
    engine: EngineConfig
    quantization: QuantizationConfig
    vision: VisionConfig
    chat_template: ChatTemplateConfig
    sampling: SamplingConfig
    server: ServerConfig
    target: TargetConfig
