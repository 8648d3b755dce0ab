"""POST /tokenize, /detokenize (vLLM's names), /v1/encode (LMDeploy's): what texts and conversations cost.

No engine is asked and no picture is decoded: a conversation with pictures is counted by their headers.
"""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from deployer.prompt.messages import Message
from deployer.prompt.tokenizer import decode
from deployer.serve.api_errors import invalid
from deployer.serve.conversation import conversation
from deployer.serve.read_body import read_body
from deployer.serve.service import Service
from deployer.serve.token_bodies import DetokenizeBody, EncodeBody, TokenizeBody


def token_routes(service: Service) -> APIRouter:
    """Return the routes, bound to a service."""
    router = APIRouter()
    max_bytes = service.server.max_body_bytes
    tokenizer = service.prompts.tokenizer

    @router.post("/tokenize")
    async def tokenize(request: Request) -> Response:
        body = await read_body(request, TokenizeBody, max_bytes=max_bytes)
        service.check_model(body.model)
        ids = await _tokenized(service, body)
        strings = [tokenizer.token_bytes(token_id).decode(errors="replace") for token_id in ids]
        return _json(
            {
                "count": len(ids),
                "max_model_len": service.prompts.session_len,
                "tokens": ids,
                "token_strs": strings if body.return_token_strs else None,
            }
        )

    @router.post("/detokenize")
    async def detokenize(request: Request) -> Response:
        body = await read_body(request, DetokenizeBody, max_bytes=max_bytes)
        service.check_model(body.model)
        beyond = sorted({token_id for token_id in body.tokens if token_id >= tokenizer.vocab_size})
        if beyond:
            raise invalid(
                f"`tokens`: {beyond[:5]}: token ids end at {tokenizer.vocab_size - 1}", param="tokens"
            )
        return _json({"prompt": decode(tokenizer, body.tokens, skip_special_tokens=False)})

    @router.post("/v1/encode")
    async def encode(request: Request) -> Response:
        body = await read_body(request, EncodeBody, max_bytes=max_bytes)
        service.check_model(body.model)
        texts = [body.input] if isinstance(body.input, str) else body.input
        ids = [await _encoded(service, text, body) for text in texts]
        if isinstance(body.input, str):
            return _json({"input_ids": ids[0], "length": len(ids[0])})
        return _json({"input_ids": ids, "length": [len(one) for one in ids]})

    return router


async def _tokenized(service: Service, body: TokenizeBody) -> list[int]:
    if body.messages is None:
        return service.prompts.count(body.prompt or "", special=body.add_special_tokens)
    planned = await service.prompts.plan(
        conversation(body.messages, may_end_with_calls=not body.add_generation_prompt),
        tools=[tool.model_dump(exclude_none=True) for tool in body.tools or ()],
        add_generation_prompt=body.add_generation_prompt,
    )
    return list(planned.token_ids)


async def _encoded(service: Service, text: str, body: EncodeBody) -> list[int]:
    if not body.do_preprocess:
        return service.prompts.count(text, special=body.add_bos)
    return list((await service.prompts.plan([Message.of("user", text)])).token_ids)


def _json(value: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
