"""Linear layers of InternVL2-8B's decoder: outputs, inputs. The head has its vocabulary of 92,553 padded."""

LINEARS = {
    "qkv": (6144, 4096),
    "o": (4096, 4096),
    "gate_up": (28672, 4096),
    "down": (4096, 14336),
    "head": (92608, 4096),
}
