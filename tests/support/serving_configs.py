"""Server, sampling and vision configs for front-end tests, and what such a server says it is."""

from deployer.config.schema import SamplingConfig, ServerConfig, VisionConfig
from deployer.recipes.lock_file import LockedModel
from deployer.recipes.running import Running

SAMPLING = SamplingConfig(
    temperature=0.8, top_p=0.8, top_k=40, min_p=0.0, repetition_penalty=1.0, max_new_tokens=None
)
SERVER = ServerConfig(
    kind="openai", host="127.0.0.1", port=0, processes=1, page="local", grpc_port=None, gradio_port=None,
    model_name=None,
    api_keys=[], api_keys_file=None, admin_keys_file=None, cors_origins=[],
    otel_endpoint=None, otel_sample_ratio=1.0,
    ssl_keyfile=None, ssl_certfile=None,
    max_requests=8, target_ttft_ms=None, target_token_ms=None, target_share=0.95, target_room=0.8,
    target_cut=0.9, target_first_places=4, target_window=20, qos=[], qos_default=None,
    max_body_bytes=100_000, body_timeout_s=60, max_stored_bytes=100_000, keep_alive_s=75, drain_s=1,
    log_level="info", allow_random_weights=False,
)  # fmt: skip
VISION = VisionConfig(
    name=None, min_tiles=None, max_tiles=None, thumbnail=None, min_pixels=None, max_pixels=None,
    max_batch_size=1, tiles_per_iter=None, cache_bytes=0, uncut_pixels=0, preprocess_workers=0,
    max_images=32, max_image_bytes=1000, max_image_pixels=1000, max_videos=4, max_video_frames=8,
    max_video_bytes=1000, video_frames=None, video_fps=None, video_timeout_s=1, fetch_timeout_s=1,
    max_redirects=1, allowed_domains=None, allow_private_addresses=False, file_root=None,
)  # fmt: skip
RUNNING = Running(
    schema=1, fingerprint="f" * 64, config={"server": {"port": 0}}, packages={"python": "3"},
    kernels_sha256="0",
    model=LockedModel(
        hub="folder", repo=None, asked_revision=None, commit=None, files={}, tokenizer_sha256="0",
        chat_template="tiny", chat_template_sha256="0",
    ),
    engine={"kind": "pytorch", "device": "cpu"},
)  # fmt: skip
