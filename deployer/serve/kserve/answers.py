"""Answers of the application as responses of the protocol: text and cost as tensors, faults as statuses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from deployer.serve.in_process import Answer
from deployer.serve.kserve.protocol import Protocol
from deployer.serve.kserve.tensors import TensorError, add_output

# What is in a response where the request names no outputs; `response` holds the JSON of the HTTP API.
TEXTS = ("text_output", "finish_reason", "index", "usage")
OUTPUTS = (*TEXTS, "response")
FINAL = "triton_final_response"

_STATUS = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    499: grpc.StatusCode.CANCELLED,
    503: grpc.StatusCode.UNAVAILABLE,
}
# Before the status: gRPC clients send again what was UNAVAILABLE.
_STATUS_OF_CODE = {"aborted": grpc.StatusCode.ABORTED}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Why a request has no answer; `metadata` says its code, its field, its id and when to come back."""

    status: Any  # grpc.StatusCode
    message: str
    metadata: tuple[tuple[str, str], ...] = ()


def fault_of(answer: Answer, body: bytes) -> Fault:
    """Return the fault that an HTTP answer tells."""
    return told_fault(answer.status, json.loads(body)["error"], answer)


def told_fault(status: int, error: Mapping[str, Any], answer: Answer | None = None) -> Fault:
    """Return the fault for an HTTP status and the error that was told with it."""
    headers = {} if answer is None else answer.headers
    about = [(f"error-{name}", str(error[name])) for name in ("code", "param") if error.get(name)]
    kept = [(name, headers[name]) for name in ("x-request-id", "retry-after") if name in headers]
    return Fault(
        status=_STATUS_OF_CODE.get(str(error.get("code"))) or _STATUS.get(status, grpc.StatusCode.INTERNAL),
        message=str(error["message"]),
        metadata=(*about, *kept),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Responses:
    """Makes the responses to one request."""

    protocol: Protocol
    model: str
    id: str
    outputs: frozenset[str]

    @classmethod
    def to(cls, request: Any, protocol: Protocol) -> "Responses":
        """Return what answers `request`. Raises TensorError for an output that there isn't."""
        names = [output.name for output in request.outputs]
        unknown = sorted({name for name in names if name not in OUTPUTS})
        if unknown:
            raise TensorError(f"outputs: no {_listed(unknown)}; there are {_listed(OUTPUTS)}")
        return cls(
            protocol=protocol, model=request.model_name, id=request.id, outputs=frozenset(names or TEXTS)
        )

    def whole(self, body: bytes, request_id: str) -> Any:
        """Return the response for a whole completion: an element of each tensor per choice."""
        answer = json.loads(body)
        texts = [choice["message"]["content"] or "" for choice in answer["choices"]]
        return self._response(body, answer, texts, request_id, is_last=True)

    def piece(self, event: bytes, request_id: str) -> Any:
        """Return the response for a chunk of a stream; the last has no choices, but the cost."""
        chunk = json.loads(event)
        texts = [choice["delta"].get("content") or "" for choice in chunk["choices"]]
        return self._response(event, chunk, texts, request_id, is_last=not chunk["choices"])

    def _response(
        self, body: bytes, told: Mapping[str, Any], texts: Sequence[str], request_id: str, *, is_last: bool
    ) -> Any:
        response = self.protocol["ModelInferResponse"](
            model_name=self.model or told["model"], model_version="1", id=self.id
        )
        response.parameters["request_id"].string_param = request_id
        response.parameters[FINAL].bool_param = is_last
        choices = told["choices"]
        tensors: dict[str, Sequence[bytes | int]] = {
            "text_output": [text.encode() for text in texts],
            "finish_reason": [(choice["finish_reason"] or "").encode() for choice in choices],
            "index": [choice["index"] for choice in choices],
            "usage": [json.dumps(told["usage"]).encode()] if told.get("usage") else [],
            "response": [body],
        }
        for name in OUTPUTS:
            if name in self.outputs and tensors[name]:
                add_output(response, name, tensors[name])
        return response

    @staticmethod
    def failed(protocol: Protocol, request: Any, fault: Fault) -> Any:
        """Return what ends one request of a stream of requests."""
        response = protocol["ModelInferResponse"](model_name=request.model_name, id=request.id)
        for name, value in fault.metadata:
            response.parameters[name.replace("-", "_")].string_param = value
        response.parameters[FINAL].bool_param = True
        return protocol["ModelStreamInferResponse"](error_message=fault.message, infer_response=response)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
