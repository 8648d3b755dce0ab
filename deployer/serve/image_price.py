"""POST /v1/images/price: what pictures cost before anything runs: pixels, tiles, tokens, cache, time.

Of a picture the header is read; of one that is not there yet a size is enough. Times are those of
`deploy plan`, on the hardware option that fits this server's device.
"""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from deployer.prompt.image_tokens import ImageTokens
from deployer.prompt.messages import ImagePart, ImageSize
from deployer.serve.pricing import Pricing
from deployer.serve.read_body import read_body
from deployer.serve.service import Service
from deployer.serve.token_bodies import PriceBody, PricedImage


def price_routes(service: Service) -> APIRouter:
    """Return the route, bound to a service."""
    router = APIRouter()

    @router.post("/v1/images/price")
    async def price(request: Request) -> Response:
        body = await read_body(request, PriceBody, max_bytes=service.server.max_body_bytes)
        service.check_model(body.model)
        slots = await service.prompts.measure([_asked(image) for image in body.images])
        images = [_price(slot, service.pricing) for slot in slots]
        answer = {
            "object": "image.price",
            "model": service.model_name,
            "images": images,
            "total": {
                name: _sum(image[name] for image in images)
                for name in ("tiles", "tokens", "kv_bytes", "encode_ms", "prefill_ms")
            },
            "max_model_len": service.prompts.session_len,
            "basis": None if service.pricing is None else service.pricing.basis(),
        }
        return Response(msgspec.json.encode(answer), media_type="application/json")

    return router


def _asked(image: PricedImage) -> ImagePart | ImageSize:
    if image.url is not None:
        return ImagePart(source=image.url, fineness=image.fineness())
    assert image.width is not None and image.height is not None, "checked with the body"
    return ImageSize(width=image.width, height=image.height, fineness=image.fineness())


def _price(slot: ImageTokens, pricing: Pricing | None) -> dict[str, Any]:
    plan, tokens = slot.plan, len(slot.token_ids)
    return {
        "width": plan.width,
        "height": plan.height,
        "grid": list(plan.grid),
        "tiles": plan.num_tiles,
        "pixels": [list(shape) for shape in slot.shapes],  # after resizing and cutting
        "tokens": tokens,
        "kv_bytes": None if pricing is None else pricing.kv_bytes(tokens),
        "encode_ms": None if pricing is None else pricing.encode_ms(plan),
        "prefill_ms": None if pricing is None else pricing.prefill_ms(tokens),
    }


def _sum(values: Any) -> Any:
    found = list(values)
    return None if any(value is None for value in found) else sum(found)
