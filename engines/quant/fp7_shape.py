"""Which matrices are whole tiles of 7-bit numbers, and the bytes that these take. Torch-free."""

TILE_OUTPUTS, TILE_INPUTS, TILE_BYTES = 16, 256, 3584


def takes_shape(outputs: int, inputs: int) -> bool:
    """Return whether a matrix is made of whole tiles."""
    return outputs > 0 and inputs > 0 and outputs % TILE_OUTPUTS == 0 and inputs % TILE_INPUTS == 0


def fp7_bytes(outputs: int, inputs: int) -> int:
    """Return the bytes of a matrix of whole tiles: these, and a scale of 4 bytes an output."""
    return outputs // TILE_OUTPUTS * (inputs // TILE_INPUTS) * TILE_BYTES + 4 * outputs
