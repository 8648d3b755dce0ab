"""The commands of LMDeploy: those that are translated flag by flag, and what stands for the others."""

from collections.abc import Mapping
from dataclasses import dataclass

from deployer.lmdeploy.flags import API_SERVER, CHAT, GRADIO, Flag
from deployer.lmdeploy.lite_flags import AUTO_AWQ, AUTO_GPTQ, SMOOTH_QUANT


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """One command of LMDeploy."""

    verb: str  # of ours; empty: serve
    flags: Mapping[str, Flag]
    fixed: tuple[str, ...]  # overrides that say what LMDeploy does by itself
    defaults: Mapping[str, str]  # flag -> override where the flag is not given
    # Flag -> where the two differ while it is not given; "" says it always. `{model}` is the model as typed.
    remarks: Mapping[str, str]


CACHED = "prefix caching is on here; for LMDeploy's default add engine.enable_prefix_caching=false"
WORK_DIR = {"work-dir": "quantize.out=./work_dir"}
PROGRAMS: Mapping[tuple[str, ...], Program] = {
    ("serve", "api_server"): Program(
        verb="",
        flags=API_SERVER,
        fixed=(),
        defaults={"server-name": "server.host=0.0.0.0"},
        remarks={
            "model-name": (
                "requests ask for the model as it is named here; LMDeploy's name: server.model_name={model}"
            ),
            "enable-prefix-caching": CACHED,
            "allow-origins": (
                "browsers of other origins are refused here; LMDeploy lets all in: server.cors_origins=['*']"
            ),
        },
    ),
    ("serve", "gradio"): Program(
        verb="",
        flags=GRADIO,
        fixed=("server=gradio",),
        defaults={"server-name": "server.host=0.0.0.0", "server-port": "server.gradio_port=6006"},
        remarks={
            "": "the API of OpenAI is served beside the chat, and a page without Gradio at its `/`",
            "enable-prefix-caching": CACHED,
        },
    ),
    ("chat",): Program(verb="chat", flags=CHAT, fixed=(), defaults={}, remarks={}),
    ("lite", "auto_awq"): Program(
        verb="quantize",
        flags=AUTO_AWQ,
        fixed=("quantization=awq",),
        defaults=WORK_DIR,
        remarks={"search-scale": "scales are searched for here, as with --search-scale"},
    ),
    ("lite", "auto_gptq"): Program(
        verb="quantize",
        flags=AUTO_GPTQ,
        fixed=("quantization=gptq", "quantize.symmetric=true"),
        defaults=WORK_DIR,
        remarks={"": "zero points make it better where nothing else reads it: leave quantize.symmetric out"},
    ),
    ("lite", "smooth_quant"): Program(
        verb="quantize",
        flags=SMOOTH_QUANT,
        fixed=(),
        defaults={"quant-dtype": "quantization=smooth_quant", **WORK_DIR},
        remarks={
            "search-scale": "the strength of each layer is searched for here; LMDeploy takes 0.5 for all"
        },
    ),
}
# Commands without a translation: what is there for them.
ELSEWHERE: Mapping[tuple[str, ...], str] = {
    ("check_env",): "`deploy doctor` says what this machine has and lacks",
    ("list",): "`deploy list models` and `deploy list chat_template`",
    ("convert",): "there is nothing to convert: checkpoints are read as they were published",
    ("serve", "api_client"): "`deploy chat chat.url=URL` talks to a server that runs",
    ("serve", "triton_client"): "`deploy chat chat.url=URL`, or KServe's v2 over gRPC: server.grpc_port=PORT",
    ("serve", "proxy"): "a balancer before the servers asks their /ready; target=ray_serve has replicas",
    ("lite", "calibrate"): "`deploy quantize` calibrates by itself",
    ("lite", "kv_qparams"): "keys and values need no calibration: quantization.kv=int8",
}
