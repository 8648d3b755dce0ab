/* after_product.cuh - what a vision tower does with a product, on pairs of results that are rounded already. */
#pragma once
#include "device/vector.cuh"

enum After { kNothing, kGelu, kGeluTanh, kQuickGelu, kAdd };

// max(x, 0) - |x| * Phi(-|x|), with Phi(-|x|) = erfc(|x| / sqrt 2) / 2 as a polynomial in t times exp(-x^2 / 2); Phi to 1.5e-7
// (Abramowitz and Stegun 7.1.26).
DEVICE float gelu(float x) {
    const float t = reciprocal_fast(1.f + 0.3275911f * 0.70710678f * fabsf(x));
    const float poly = ((((0.5307027145f * t - 0.7265760135f) * t + 0.7107068705f) * t - 0.142248368f) * t + 0.127414796f) * t;
    return max(x, 0.f) - fabsf(x) * (poly * exp2_fast(-0.72134752f * x * x));
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
