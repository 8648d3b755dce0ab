"""`server.gradio_port`: a Gradio chat in this process that asks our own HTTP API, with the visitor's key.

It has no way to the engine but HTTP: limits, classes and logs are those of any client. Gradio runs an event
loop of its own in a thread, so its work and that of the API share one interpreter.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any

from deployer.config.schema import ServerConfig
from deployer.errors import DeployError, UnavailableError
from deployer.serve.gradio_turn import OwnApi
from deployer.serve.installed import is_installed
from deployer.serve.key_file import needs_key
from deployer.serve.listen import bind
from engines.errors import EngineError

KEPT_S = 3600  # pictures of a conversation lie in Gradio's temporary folder; looked at as often
# Fonts of the visitor's machine: Gradio's own themes fetch theirs from a CDN.
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
# A picture's own button would send it to a public site; Gradio has no option against it.
NO_SHARING = 'button[aria-label="Share"], button[title="Share"] { display: none; }'


def check_gradio(server: ServerConfig) -> None:
    """Raise UnavailableError where the page cannot be opened, before anything slow happens."""
    if server.gradio_port is None:
        return
    if not is_installed("gradio"):
        raise UnavailableError(
            f"server.gradio_port={server.gradio_port}: needs `gradio`; pip install 'vlm-deployer[gradio]', "
            "or use server=openai, whose page at / needs no package"
        )
    _free_port(server)


@asynccontextmanager
async def gradio_page(server: ServerConfig, *, url: str, model_name: str) -> AsyncGenerator[str | None, None]:
    """Serve the chat meanwhile; yields its address, None where there is no such port. `url` is the API's.

    Raises UnavailableError where the port is taken by now.
    """
    if server.gradio_port is None:
        yield None
        return
    api = OwnApi(url=url, model_name=model_name, trusted=_own_certificate(server))
    page, address = await asyncio.to_thread(_launch, server, api)
    try:
        yield address
    finally:
        await asyncio.to_thread(page.close, verbose=False)


def _launch(server: ServerConfig, api: OwnApi) -> tuple[Any, str]:
    """Return the running page and its address."""
    import gradio

    page, port = _layout(server, api), _free_port(server)
    try:
        _, address, _ = page.launch(
            server_name=server.host,
            server_port=port,
            ssl_keyfile=server.ssl_keyfile,
            ssl_certfile=server.ssl_certfile,
            ssl_verify=False,  # of the one request that Gradio sends to itself
            max_file_size=server.max_body_bytes,
            max_threads=server.max_requests,
            theme=gradio.themes.Default(**FONTS),
            css=NO_SHARING,
            footer_links=[],
            share=False,
            ssr_mode=False,
            mcp_server=False,
            prevent_thread_lock=True,
            quiet=True,
        )
    except OSError as error:
        raise UnavailableError(f"server.gradio_port={port}: cannot be opened: {error}") from error
    return page, address.rstrip("/")


def _layout(server: ServerConfig, api: OwnApi) -> Any:
    """Return the page: a chat with pictures, and a field for a key where one is needed."""
    import gradio

    def answer(question: Any, history: Any, api_key: str = "") -> Generator[str, None, None]:
        try:
            yield from api.answer(question, history, api_key=api_key)
        except (DeployError, EngineError) as error:
            # NOTE: after `gradio.Error` the field for the next question stays disabled (Gradio 6.31).
            gradio.Warning(str(error), duration=None)

    key = gradio.Textbox(label="API key", type="password", render=False)
    return gradio.ChatInterface(
        answer,
        multimodal=True,
        # Without the share button, which would put the conversation on a public site.
        chatbot=gradio.Chatbot(label=api.model_name, height="70vh", buttons=["copy"], render=False),
        textbox=gradio.MultimodalTextbox(
            file_types=["image"], file_count="multiple", placeholder="Ask; drop pictures here", render=False
        ),
        additional_inputs=[key] if needs_key(server) else None,
        additional_inputs_accordion=gradio.Accordion("Key", open=True, render=False),
        title=api.model_name,
        concurrency_limit=None,  # the API admits or refuses
        analytics_enabled=False,
        api_visibility="private",
        delete_cache=(KEPT_S, KEPT_S),
    )


def _own_certificate(server: ServerConfig) -> ssl.SSLContext | None:
    """Return a context that trusts the server's own certificate, under any host name, and no other."""
    if server.ssl_certfile is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(server.ssl_certfile)
    return context


def _free_port(server: ServerConfig) -> int:
    """Return the port to open; for 0 one that is free now. Raises UnavailableError where it is taken."""
    with bind(server, port=server.gradio_port, key="server.gradio_port") as listener:
        return int(listener.getsockname()[1])
