"""The paths that are served: what `GET /` lists and metrics count one by one."""

ENDPOINTS = (
    "/v1/models",
    "/v1/deployment",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/responses/input_tokens",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/encode",
    "/v1/images/price",
    "/generate",
    "/tokenize",
    "/detokenize",
    "/health",
    "/ready",
    "/metrics",
)
