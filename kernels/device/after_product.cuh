/* after_product.cuh - what a vision tower does with a product, on pairs of results that are rounded already. */
#pragma once
#include "device/vector.cuh"

enum After { kNothing, kGelu, kGeluTanh, kQuickGelu, kAdd };

// max(x, 0) - |x| * Phi(-|x|), with Phi(-a) = 2^-q(a): q is nearly a parabola. The polynomial, the least of the largest errors in [0, 5.5],
// gives Phi(-a) to 6e-6 of itself there and falls from there on, so each number of bf16 from -5.5 on is rounded as exact ones are. One
// exponential instead of that and a reciprocal: the special function unit is what numbers wait for that nothing is multiplied beside.
DEVICE float gelu(float x) {
    const float a = fabsf(x);
    const float low = ((1.7934958123e-6f * a - 6.0904927323e-5f) * a + 9.2603444667e-4f) * a - 8.4937764332e-3f;
    const float q = (((low * a + 0.0539378785f) * a + 0.4584804773f) * a + 1.1512467861f) * a + 0.9999954700f;
    return max(x, 0.f) - a * exp2_fast(-q);
}

template <After HOW>
DEVICE float activated(float y) {
    if constexpr (HOW == kGelu) return gelu(y);
    // An exponential that is infinite gives 0.
    const float exponent = HOW == kQuickGelu ? 1.702f * y : 1.5957691216f * (y + 0.044715f * y * y * y);
    return y * reciprocal_fast(1.f + __expf(-exponent));
}

template <class T, After HOW>
DEVICE unsigned activated2(unsigned y) {
    if constexpr (HOW == kNothing) return y;
    return pack2<T>(activated<HOW>(low_half<T>(y)), activated<HOW>(high_half<T>(y)));
}

// residual + y * factor.
template <class T>
DEVICE unsigned added2(unsigned residual, unsigned y, unsigned factor) {
    return pack2<T>(low_half<T>(residual) + low_half<T>(y) * low_half<T>(factor),
                    high_half<T>(residual) + high_half<T>(y) * high_half<T>(factor));
}
