/* rotation.cuh - the rotation of one pair, in the same operations wherever it is computed. */
#pragma once
#include "device/ptx.cuh"

DEVICE void rotate(float& first, float& second, float cos, float sin) {
    const float x = first, y = second;
    first = fmaf(x, cos, -(y * sin));
    second = fmaf(y, cos, x * sin);
}
