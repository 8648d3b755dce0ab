/* silu.cuh - the gate of an FFN. */
#pragma once
#include "device/ptx.cuh"

// x * sigmoid(x); the quotient by a reciprocal is 2 ulp wide, a division takes five times the instructions.
DEVICE float silu(float x) { return __fdividef(x, 1.f + __expf(-x)); }
