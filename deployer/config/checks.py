"""Rules between the values of a tree, one small function each; all faults are reported at once.

A rule yields the key that it objects to and the rest of the message: the rule and the way out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deployer.config.adapters import adapters_are_there
from deployer.config.hyper_parameters import max_positions, num_kv_heads
from deployer.config.kv_checks import kv_format_suits_the_dtype, kv_format_suits_the_heads
from deployer.config.origins import Origins
from deployer.config.process_checks import processes_share_what_they_serve
from deployer.config.qos_checks import classes_fit_together
from deployer.config.ranges import out_of_range
from deployer.config.rule import Complaints, Rule
from deployer.config.schema import DeployConfig
from deployer.config.server_checks import (
    endpoint_is_a_url,
    origins_are_origins,
    ports_differ,
    tls_needs_both_files,
)
from deployer.config.suggest import any_of
from deployer.config.target_checks import (
    gradio_runs_here,
    ranks_fit_a_node,
    replicas_are_in_order,
    target_has_a_label_for_a_name,
)
from deployer.config.unbuilt import UnbuiltValueError
from deployer.config.video_checks import frames_of_a_video_are_said_once
from deployer.config.weight_checks import weight_format_suits_the_dtype
from deployer.typed_path import typed_path

SMALLEST_CACHE_BYTES = 1 << 20


def broken_rules(config: DeployConfig, origins: Origins) -> list[str]:
    """Return a message for each rule that a tree breaks; rules about an `Unbuilt` value are left out."""
    return [message for rule in RULES for message in _messages(rule, config, origins)]


def _messages(rule: Rule, config: DeployConfig, origins: Origins) -> Iterator[str]:
    try:
        for key, text in rule(config):
            yield _message(config, origins, key, text)
    except UnbuiltValueError:  # the fault of that value has been told
        return


def _message(config: DeployConfig, origins: Origins, key: str, rule: str) -> str:
    value: Any = config
    for name, _, place in (part.rstrip("]").partition("[") for part in key.split(".")):
        value = getattr(value, name)
        value = value[int(place)] if place else value
    shown = _shown(value)
    return f"{key}={shown} ({origins.where(key)}): {rule}"


def _shown(value: Any) -> str:
    """Return a value as it is written; of groups in a list their names."""
    if isinstance(value, list):
        value = [getattr(item, "name", item) for item in value]
    return {"None": "null", "True": "true", "False": "false"}.get(str(value), str(value))


def checkpoint_is_named(config: DeployConfig) -> Complaints:
    model = config.model
    if model.hub in ("huggingface", "modelscope"):
        if not model.repo:
            yield "model.repo", f"model.hub={model.hub} needs a repo; set model.repo=<owner>/<name>"
        elif model.repo.count("/") != 1 or model.repo.startswith("/") or model.repo.endswith("/"):
            yield (
                "model.repo",
                "must read owner/name; for a folder on this machine use model=local model.path=<folder>",
            )
        if model.path:
            yield (
                "model.path",
                f"model.hub={model.hub} fetches model.repo; for the folder set model.hub=folder",
            )
    elif not model.path:
        yield "model.path", f"model.hub={model.hub} needs a path; set model.path=<folder>"


def tp_divides_kv_heads(config: DeployConfig) -> Complaints:
    heads = num_kv_heads(config.model.hyper_parameters or {})
    if heads is not None and config.engine.tp > 0 and heads % config.engine.tp:
        good = [str(tp) for tp in range(1, heads + 1) if heads % tp == 0]
        yield "engine.tp", f"must divide the {heads} KV heads of `{config.model.name}`; use {any_of(good)}"


def page_is_a_power_of_two(config: DeployConfig) -> Complaints:
    tokens = config.engine.cache_block_seq_len
    if tokens < 16 or tokens & (tokens - 1):
        yield "engine.cache_block_seq_len", "must be a power of two from 16 on; use 16, 32, 64 or 128"


def cache_is_a_share_or_bytes(config: DeployConfig) -> Complaints:
    entry = config.engine.cache_max_entry_count
    if entry <= 0 or 1 <= entry < SMALLEST_CACHE_BYTES:
        yield (
            "engine.cache_max_entry_count",
            f"must be a share above 0 and below 1, or bytes from {SMALLEST_CACHE_BYTES} on; use 0.8",
        )


def session_fits_the_model(config: DeployConfig) -> Complaints:
    most = max_positions(config.model.hyper_parameters or {})
    asked = config.engine.session_len
    if most is None or asked is None or asked <= most or config.engine.rope_scaling_factor is not None:
        return
    yield (
        "engine.session_len",
        f"`{config.model.name}` was made for {most} tokens; lower it, or set engine.rope_scaling_factor",
    )


def proposals_fit_a_step(config: DeployConfig) -> Complaints:
    proposed, rows = config.engine.speculative_num_draft_tokens, config.engine.max_batch_size
    if proposed >= rows > 0:
        yield (
            "engine.speculative_num_draft_tokens",
            f"a step has engine.max_batch_size={rows} rows, one of them the sequence's last token; "
            f"use at most {rows - 1}, or raise engine.max_batch_size",
        )


def answer_fits_the_session(config: DeployConfig) -> Complaints:
    answer, session = config.sampling.max_new_tokens, config.engine.session_len
    if answer is not None and session is not None and answer >= session:
        yield (
            "sampling.max_new_tokens",
            f"must be below engine.session_len={session}, which counts the prompt too",
        )


def turbomind_runs_on_cuda(config: DeployConfig) -> Complaints:
    if config.engine.kind == "turbomind" and config.engine.device_type not in ("cuda", "auto"):
        yield "engine.device_type", "engine=turbomind runs on CUDA only; use engine=pytorch for other devices"


def copies_for_decode_are_read(config: DeployConfig) -> Complaints:
    if config.engine.kind == "pytorch" and config.engine.decode_weights > 0:
        yield (
            "engine.decode_weights",
            "engine=pytorch reads no second copy of the weights; use engine=turbomind or 0",
        )


def tiles_are_in_order(config: DeployConfig) -> Complaints:
    low, high = config.vision.min_tiles, config.vision.max_tiles
    if low is not None and high is not None and low > high:
        yield "vision.min_tiles", f"must not be above vision.max_tiles={high}"


def named_files_are_there(config: DeployConfig) -> Complaints:
    files = {
        "server.api_keys_file": config.server.api_keys_file,
        "server.admin_keys_file": config.server.admin_keys_file,
        "server.ssl_keyfile": config.server.ssl_keyfile,
        "server.ssl_certfile": config.server.ssl_certfile,
        "chat_template.file": config.chat_template.file,
    }
    for key, name in files.items():
        if name is not None and not typed_path(name).is_file():
            yield key, f"there is no such file; the path is relative to {Path.cwd()}"
    root = config.vision.file_root
    if root is not None and not typed_path(root).is_dir():
        yield "vision.file_root", f"there is no such folder; the path is relative to {Path.cwd()}"


def texts_are_not_empty(config: DeployConfig) -> Complaints:
    texts = {
        "model.name": config.model.name,
        "model.revision": config.model.revision,
        "model.download_dir": config.model.download_dir,
        "server.host": config.server.host,
        "server.model_name": config.server.model_name,
    }
    for key, value in texts.items():
        if value is not None and not value.strip():
            yield key, "must not be empty; leave it out or give null"
    if not all(key.strip() for key in config.server.api_keys):
        yield "server.api_keys", "must hold no empty key; use [] for no check"
    if not all(config.chat_template.stop_words):
        yield "chat_template.stop_words", "must hold no empty text: it would end every answer at once"


RULES: tuple[Rule, ...] = (
    out_of_range,
    checkpoint_is_named,
    tp_divides_kv_heads,
    page_is_a_power_of_two,
    cache_is_a_share_or_bytes,
    session_fits_the_model,
    proposals_fit_a_step,
    answer_fits_the_session,
    turbomind_runs_on_cuda,
    copies_for_decode_are_read,
    kv_format_suits_the_heads,
    kv_format_suits_the_dtype,
    weight_format_suits_the_dtype,
    tiles_are_in_order,
    frames_of_a_video_are_said_once,
    adapters_are_there,
    tls_needs_both_files,
    named_files_are_there,
    ports_differ,
    classes_fit_together,
    processes_share_what_they_serve,
    texts_are_not_empty,
    origins_are_origins,
    endpoint_is_a_url,
    target_has_a_label_for_a_name,
    replicas_are_in_order,
    ranks_fit_a_node,
    gradio_runs_here,
)
