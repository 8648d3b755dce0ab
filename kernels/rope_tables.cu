/* rope_tables.cu - cos and sin of the angles by which the tokens of a step are rotated, in one launch instead of fifteen.

   angle[t, j] = positions[t] * inverse(t, j),   cos[t, j] = attention_factor * cos(angle), sin likewise
   KIND 0   inverse = inv[j]
        1   inverse = lens[t] > limit ? long_inv[j] : inv[j]                                     (longrope)
        2   inverse = 1 / (theta * g^power)^inv[j],  g = factor * max(lens[t], limit) / limit - (factor - 1)    (dynamic)
        3   the same with  g = 2^(1 + ceil(log2(max(lens[t], limit) / limit))) - 1               (dynamic_steps)

   in       positions, lens [T] int64   inv, long_inv [ROTARY] fp32; of KIND 2 and 3 `inv` holds the exponents
   out      cos, sin [T, ROTARY] fp32
   -D       ROTARY, KIND
   launch   grid ceil(T * ROTARY / 256), block 256
   moves    8 * T * ROTARY bytes
   numbers  the angle in fp32, as engines/decoder/rope.py rounds it; its cos and sin within 2 ulp, for angles of any size that a
            position below 2^31 has: turns are taken off in fp64
*/
#if !defined(ROTARY) || !defined(KIND)
#error "rope_tables.cu needs -DROTARY -DKIND"
#endif
#include "device/ptx.cuh"

constexpr int kThreads = 256;
enum Kind { kFixed, kLong, kDynamic, kDynamicSteps };

struct Turn {
    float cos, sin;
};

// Polynomials for |r| <= pi / 4 (Cephes, sinf.c); `quarter` turns of a circle ahead of it.
DEVICE Turn turn(float angle) {
    const double quarters = rint(double(angle) * 0.63661977236758134308);  // 2 / pi
    const float r = float(double(angle) - quarters * 1.57079632679489661923), s = r * r;
    const int quarter = int((long long)quarters & 3);
    const float sine = r + r * s * (-1.6666654611e-1f + s * (8.3321608736e-3f - s * 1.9515295891e-4f));
    const float cosine = 1.f - 0.5f * s + s * s * (4.166664568298827e-2f + s * (-1.388731625493765e-3f + s * 2.443315711809948e-5f));
    const float a = quarter & 1 ? sine : cosine, b = quarter & 1 ? cosine : sine;
    return {quarter == 1 || quarter == 2 ? -a : a, quarter >= 2 ? -b : b};
}

DEVICE float inverse_of(long long len, float inv, float long_inv, long long limit, float theta, float factor, float power) {
    if (KIND == kFixed) return inv;
    if (KIND == kLong) return len > limit ? long_inv : inv;
    const long long most = len > limit ? len : limit;
    float growth = factor * (float(most) / float(limit)) - (factor - 1.f);
    if (KIND == kDynamicSteps) {
        int doublings = 0;
        while ((limit << doublings) < most) doublings++;
        growth = float((2LL << doublings) - 1);
    }
    return 1.f / powf(theta * powf(growth, power), inv);
}

extern "C" __global__ __launch_bounds__(kThreads) void rope_tables(
    const long long* positions, const long long* lens, const float* inv, const float* long_inv, float* cos_out, float* sin_out,
    int num_tokens, long long limit, float theta, float factor, float power, float attention_factor) {
    dependents_may_start();
    const long long item = (long long)blockIdx.x * kThreads + threadIdx.x;
    const int t = int(item / ROTARY), j = int(item % ROTARY);
    const bool real = t < num_tokens;
    const float own = real ? inv[j] : 0.f, own_long = real && KIND == kLong ? long_inv[j] : 0.f;
    wait_for_predecessor();
    if (!real) return;
    const long long len = KIND == kFixed ? 0 : lens[t];
    const Turn found = turn(float(positions[t]) * inverse_of(len, own, own_long, limit, theta, factor, power));
    cos_out[item] = found.cos * attention_factor;
    sin_out[item] = found.sin * attention_factor;
}
