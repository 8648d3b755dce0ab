/* choose_token.cu - the next token of each row: the largest logit, or a draw from the softmax of what a cut leaves.

   temperature[s] = 0   ids[s] = lowest id of the largest logit
   otherwise            y = (x - max(x)) / temperature;  ids[s] = lowest id of the largest y[v] + noise(key, v) with y[v] >= cut

   in       logits [S, vocab] fp32 contiguous   temperature, cut [S] fp32   keys [S, 2] int64, lo and hi of engines/noise.py
   out      ids [S] int64; `vocab` says that the row held a NaN
   -D       none
   launch   grid S, block 1024
   moves    S * vocab * 4 bytes, twice for drawn rows (mostly out of L2 the second time)
   numbers  those of engines/sampling.py, fp32; the noise is the recipe of engines/noise.py
*/
#include "device/vector.cuh"

constexpr int kThreads = 1024;
constexpr float kBelowOne = 0.999999940395355224609375f;  // 1 - 2^-24
constexpr float kLowestTemperature = 1e-6f;

DEVICE unsigned fmix32(unsigned x) {
    x = (x ^ x >> 16) * 0x85EBCA6Bu;
    x = (x ^ x >> 13) * 0xC2B2AE35u;
    return x ^ x >> 16;
}

DEVICE float gumbel(unsigned low, unsigned high, unsigned token) {
    const unsigned hash = fmix32(fmix32(token * 0x9E3779B9u + low) ^ high);
    const float uniform = min((float(hash) + 0.5f) * 2.3283064365386963e-10f, kBelowOne);
    return -logf(-log1pf(-uniform));
}

// The larger value wins, of equal ones the lower id; `is_nan` once any value was none.
struct Best {
    float value;
    int id;
    bool is_nan;

    DEVICE void take(float other, int other_id) {
        is_nan |= other != other;
        if (other > value || (other == value && other_id < id)) {
            value = other;
            id = other_id;
        }
    }

    DEVICE void gather_warp() {
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, value, distance);
            const int other_id = __shfl_xor_sync(0xffffffffu, id, distance);
            is_nan |= __shfl_xor_sync(0xffffffffu, int(is_nan), distance) != 0;
            take(other, other_id);
        }
    }
};

// The best of value(v) over the row, in every thread.
template <class Value>
DEVICE Best best_of(int vocab, Best* partial, Value value) {
    Best best = {__int_as_float(0xff800000), vocab, false};
    for (int v = threadIdx.x; v < vocab; v += kThreads) best.take(value(v), v);
    best.gather_warp();
    __syncthreads();  // an earlier round has been read
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = best;
    __syncthreads();
    best = partial[threadIdx.x % 32];
    best.gather_warp();
    return best;
}

extern "C" __global__ __launch_bounds__(kThreads) void choose_token(
    const float* logits, const float* temperature, const float* cut, const long long* keys, long long* ids, int vocab) {
    __shared__ Best partial[kThreads / 32];
    dependents_may_start();
    wait_for_predecessor();
    const float* row = logits + (long long)blockIdx.x * vocab;
    Best best = best_of(vocab, partial, [&](int v) { return row[v]; });
    if (temperature[blockIdx.x] > 0.f && !best.is_nan) {
        const float heat = max(temperature[blockIdx.x], kLowestTemperature), limit = cut[blockIdx.x];
        const float top = max(best.value, -3.402823466e38f);  // all masked: stays -inf, not NaN
        const unsigned low = unsigned(keys[2 * blockIdx.x]), high = unsigned(keys[2 * blockIdx.x + 1]);
        best = best_of(vocab, partial, [&](int v) {
            const float y = (row[v] - top) / heat;
            return y < limit ? __int_as_float(0xff800000) : y + gumbel(low, high, unsigned(v));
        });
    }
    if (threadIdx.x == 0) ids[blockIdx.x] = best.is_nan ? vocab : best.id;
}
