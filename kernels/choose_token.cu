/* choose_token.cu - the next token of each row: the largest logit, or a draw from the softmax of what cuts leave.

   penalties first      x of a seen token = x > 0 ? x * (1 / repetition) : x * repetition, less presence where it was put out,
                        less frequency times how often
   edits and masks      x[id] + value of each edit; only ids whose bit is set, or that have an edit, may come
   temperature[s] = 0   ids[s] = lowest id of the largest logit
   otherwise            y = (x - max(x)) * (1 / temperature);  ids[s] = lowest id of the largest y[v] + noise(key, v) with y[v] >= cut,
                        the largest of: log_min_p; the top_k-th largest y; of these the smallest whose larger ones hold less
                        than top_p of their softmax

   in       logits [S, vocab] SCALAR, rows `stride` apart   rows [S] of `Row`, as engines/sampling/choice_rows.py packs it
            seen [N, vocab] bool, outputs [N, vocab] int32: the tables of engines/sampling/penalties.py, of which a row names one
            at the addresses in a row: bits of ids, lowest first, in whole words; edits, whose bits are 0
   out      ids [S] int64; `vocab` says that the row held a NaN, 0 also that nothing may come
   -D       SCALAR = bf16 | fp16 | fp32
   launch   grid S, block 512
   moves    S * vocab elements, with 5 bytes each of the tables where a row is penalized and a bit each of its mask; twice for rows drawn from
            all or the top_k <= 512 largest, four times where another top_k or top_p alone cuts (mostly out of L2)
   numbers  those of engines/sampling/next_token.py in fp32, the noise of engines/sampling/noise.py. Probabilities are added as multiples of 2^-40,
            so that the order of threads changes nothing: a token within 1e-5 of top_p's border may fall on its other side

   How a cut is found. The top_k-th largest of what 512 threads have found is no larger than that of all tokens, and few tokens are
   as large: they are listed with their depths -y, and each finds its place among them. Without top_k, or where more are as large
   than a list holds, tokens are counted and weighed by depth in bins 1/32 wide, the last one open; the bin of the border is listed;
   in it the border is fixed bit by bit.
*/
#ifndef SCALAR
#error "choose_token.cu needs -DSCALAR"
#endif
#include "device/vector.cuh"

constexpr int kThreads = 512, kWarps = kThreads / 32;
constexpr int kBins = 1024, kBinsADepth = 32, kListed = 2048;
constexpr float kBelowOne = 0.999999940395355224609375f;  // 1 - 2^-24
constexpr float kLowestTemperature = 1e-6f;
constexpr float kSlack = 1e-3f;  // far above what a quick logarithm is wrong by
constexpr float kLog2E = 1.44269504088896340736f;
constexpr unsigned kInfinityBits = 0x7f800000;
constexpr float kDeepest = 3.402823466e38f;  // of what may be drawn

using Weight = unsigned long long;

struct Edit {
    int id;
    float value;
};

struct Row {
    long long key_low, key_high;
    float temperature, log_min_p, top_p;
    int top_k;  // vocab: all
    float repetition, presence, frequency;
    int counts;  // row of the tables, from 1 on; 0: no penalties
    const unsigned* mask;  // null: all ids may come
    const Edit* edits;
    long long num_edits;
};

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

struct Bins {
    int counts[kBins];
    Weight masses[kBins];
};

struct Few {  // that are largest
    float largest[kThreads];  // of each thread's tokens
    int ids[kListed];         // of the depths listed
};

struct Shared {
    Best best[kWarps];
    Weight sums[kWarps];
    Weight before;  // of the bins before `bin`
    int bin, num_listed;
    unsigned deepest;  // bits of a depth: they are in the order of depths, which are not negative
    union {
        Bins bins;
        Few few;
    };
    float list[kListed];  // depths of the border's bin, or of the few
};

DEVICE float never() { return -__uint_as_float(kInfinityBits); }  // the logit of what may not come

DEVICE unsigned fmix32(unsigned x) {
    x = (x ^ x >> 16) * 0x85EBCA6Bu;
    x = (x ^ x >> 13) * 0xC2B2AE35u;
    return x ^ x >> 16;
}

DEVICE float uniform(unsigned low, unsigned high, unsigned token) {
    const unsigned hash = fmix32(fmix32(token * 0x9E3779B9u + low) ^ high);
    return min((float(hash) + 0.5f) * 2.3283064365386963e-10f, kBelowOne);
}

// What a row's tokens are worth before it is drawn from.
struct Logits {
    const SCALAR* row;
    const bool* seen;  // null: no penalties
    const int* outputs;
    float repetition, inverse_repetition, presence, frequency;
    const unsigned* mask;  // null: all may come
    const Edit* edits;
    int num_edits, vocab;

    DEVICE float penalized(int v, float x) const {
        if (seen[v]) x = x > 0.f ? x * inverse_repetition : x * repetition;
        const int count = outputs[v];
        return count > 0 ? (x - presence) - __fmul_rn(frequency, float(count)) : x;
    }

    DEVICE float at(int v) const { return seen ? penalized(v, to_float(row[v])) : to_float(row[v]); }

    // Bits of ids v to v + COUNT - 1, which are of one word.
    template <int COUNT>
    DEVICE unsigned allowed(int v) const {
        constexpr unsigned all = (1u << COUNT) - 1;
        return mask ? mask[unsigned(v) / 32] >> unsigned(v) % 32 & all : all;
    }

    // take(v, logit) for every token of this thread, -inf for one that may not come; LOADS of 16 bytes are under way at once.
    template <int LOADS = 1, class Take>
    DEVICE void each(Take take) const {
        constexpr int lanes = kLanes<SCALAR>;
        const int pieces = !seen && (unsigned long long)row % 16 == 0 ? vocab / lanes : 0;
#pragma unroll LOADS
        for (int piece = threadIdx.x; piece < pieces; piece += kThreads) {
            const unsigned bits = allowed<lanes>(piece * lanes);
            float x[lanes];
            unpack16<SCALAR>(load16(row + piece * lanes), x);
#pragma unroll
            for (int j = 0; j < lanes; j++) take(piece * lanes + j, bits >> j & 1 ? x[j] : never());
        }
        for (int v = pieces * lanes + threadIdx.x; v < vocab; v += kThreads) take(v, allowed<1>(v) ? at(v) : never());
        for (int i = threadIdx.x; i < num_edits; i += kThreads) take(edits[i].id, at(edits[i].id) + edits[i].value);
    }
};

// The best of all threads, in every thread.
DEVICE Best best_of_block(Best best, Best* partial) {
    best.gather_warp();
    __syncthreads();  // an earlier round has been read
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = best;
    __syncthreads();
    best = partial[threadIdx.x % kWarps];
    best.gather_warp();
    return best;
}

DEVICE Weight sum_of_block(Weight sum, Weight* partial) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    __syncthreads();
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = threadIdx.x % 32 < kWarps ? partial[threadIdx.x % 32] : 0;
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, distance);
    return sum;
}

DEVICE int bin_of(float depth) { return int(fminf(depth * kBinsADepth, float(kBins - 1))); }

struct One {  // counts tokens
    DEVICE Weight operator()(float) const { return 1; }
};
struct Mass {  // adds probabilities, as shares of the likeliest token's
    DEVICE Weight operator()(float depth) const { return Weight(exp2_fast(-depth * kLog2E) * 1099511627776.f); }
};

// A row whose tokens lie at depths below its largest logit.
struct Depths {
    const Logits& logits;
    float top, inverse_temperature;

    DEVICE float of(float x) const { return 0.f - (x - top) * inverse_temperature; }

    DEVICE void fill_bins(Shared& shared) const {
        for (int bin = threadIdx.x; bin < kBins; bin += kThreads) {
            shared.bins.counts[bin] = 0;
            shared.bins.masses[bin] = 0;
        }
        __syncthreads();
        logits.each([&](int, float x) {
            const float depth = of(x);
            if (depth > kDeepest) return;
            const Weight mass = Mass()(depth);
            atomicAdd(&shared.bins.counts[bin_of(depth)], 1);
            if (mass) atomicAdd(&shared.bins.masses[bin_of(depth)], mass);
        });
        __syncthreads();
    }

    // Set `shared.bin` to the last bin with tokens before which there is less than `limit`, above 0.
    template <class T>
    DEVICE void find_bin(Shared& shared, const T* bins, Weight limit) const {
        constexpr int own = kBins / 32;
        if (threadIdx.x < 32) {
            Weight sum = 0;
            for (int i = 0; i < own; i++) sum += bins[threadIdx.x * own + i];
            Weight before = sum;
#pragma unroll
            for (int distance = 1; distance < 32; distance *= 2) {
                const Weight other = __shfl_up_sync(0xffffffffu, before, distance);
                if (int(threadIdx.x) >= distance) before += other;
            }
            before -= sum;
            int found = -1;
            Weight found_before = 0;
            for (int i = 0; i < own; i++) {
                const int bin = threadIdx.x * own + i;
                if (shared.bins.counts[bin] && before < limit) {
                    found = bin;
                    found_before = before;
                }
                before += bins[bin];
            }
            const int last = 31 - __clz(__ballot_sync(0xffffffffu, found >= 0));
            if (int(threadIdx.x) == last) {
                shared.bin = found;
                shared.before = found_before;
                shared.num_listed = 0;
            }
        }
        __syncthreads();
    }

    DEVICE void list_bin(Shared& shared) const {
        const int bin = shared.bin;
        if (shared.bins.counts[bin] <= kListed)
            logits.each([&](int, float x) {
                const float depth = of(x);
                if (bin_of(depth) == bin && depth <= kDeepest) shared.list[atomicAdd(&shared.num_listed, 1)] = depth;
            });
        __syncthreads();
    }

    // What is shallower than `depth` in `shared.bin`, and `before`.
    template <class Weigh>
    DEVICE Weight above(Shared& shared, unsigned depth, Weigh weigh, Weight before) const {
        Weight sum = 0;
        const int bin = shared.bin;
        if (shared.bins.counts[bin] <= kListed) {
            for (int i = threadIdx.x; i < shared.num_listed; i += kThreads)
                if (__float_as_uint(shared.list[i]) < depth) sum += weigh(shared.list[i]);
        } else {  // too many for the list: read them again
            logits.each([&](int, float x) {
                if (bin_of(of(x)) == bin && __float_as_uint(of(x)) < depth) sum += weigh(of(x));
            });
        }
        return before + sum_of_block(sum, shared.sums);
    }

    // The largest depth of a token above which there is less than `limit`; its bin is listed then.
    template <class Weigh, class T>
    DEVICE unsigned deepest(Shared& shared, const T* bins, Weigh weigh, Weight limit) const {
        find_bin(shared, bins, limit);
        list_bin(shared);
        const Weight before = shared.before;
        const unsigned low = __float_as_uint(float(shared.bin) / kBinsADepth);
        const unsigned high = shared.bin == kBins - 1 ? kInfinityBits : __float_as_uint(float(shared.bin + 1) / kBinsADepth);
        const int differ = 31 - __clz(low ^ high);
        unsigned depth = low >> differ >> 1 << differ << 1;
        for (int bit = differ; bit >= 0; bit--)
            if (above(shared, depth | 1u << bit, weigh, before) < limit) depth |= 1u << bit;
        return min(depth, kInfinityBits);  // beyond all tokens where all are kept
    }

    template <class T>
    DEVICE Weight sum_of_bins(Shared& shared, const T* bins, int end) const {
        Weight sum = 0;
        for (int bin = threadIdx.x; bin < end; bin += kThreads) sum += bins[bin];
        return sum_of_block(sum, shared.sums);
    }

    // The depth of the last token that top_k and then top_p keep.
    DEVICE float cut(Shared& shared, int top_k, float top_p) const {
        unsigned depth = kInfinityBits;
        fill_bins(shared);
        Weight mass = sum_of_bins(shared, shared.bins.masses, kBins);
        if (top_k < sum_of_bins(shared, shared.bins.counts, kBins)) {
            depth = deepest(shared, shared.bins.counts, One(), top_k);
            const Weight shallower = above(shared, depth, One(), shared.before);
            mass = above(shared, depth, Mass(), sum_of_bins(shared, shared.bins.masses, shared.bin));
            mass += (top_k - shallower) * Mass()(__uint_as_float(depth));  // of those that tie, some are among the best
        }
        if (top_p < 1.f) depth = min(depth, deepest(shared, shared.bins.masses, Mass(), limit_of(mass, top_p)));
        return __uint_as_float(depth);
    }

    // List the tokens that may be among the top_k <= kThreads best; false where they are too many. `own`: the thread's largest logit.
    DEVICE bool list_best(Shared& shared, float own, int top_k) const {
        shared.few.largest[threadIdx.x] = own;
        if (threadIdx.x == 0) shared.num_listed = 0, shared.deepest = 0;
        __syncthreads();
        int num_larger = 0;
#pragma unroll 8
        for (int i = 0; i < kThreads; i++) num_larger += shared.few.largest[i] > own;
        if (num_larger < top_k) atomicMax(&shared.deepest, __float_as_uint(of(own)));
        __syncthreads();
        const unsigned deepest = min(shared.deepest, __float_as_uint(kDeepest));
        logits.each<4>([&](int v, float x) {
            const float depth = of(x);
            if (__float_as_uint(depth) > deepest) return;
            const int place = atomicAdd(&shared.num_listed, 1);
            if (place < kListed) shared.list[place] = depth, shared.few.ids[place] = v;
        });
        __syncthreads();
        return shared.num_listed <= kListed;
    }

    // The largest depth of a listed token above which there is less than `limit`.
    template <class Weigh>
    DEVICE unsigned deepest_listed(Shared& shared, Weigh weigh, Weight limit) const {
        __syncthreads();  // an earlier one has been read
        if (threadIdx.x == 0) shared.deepest = 0;
        __syncthreads();
        for (int i = threadIdx.x; i < shared.num_listed; i += kThreads) {
            const float depth = shared.list[i];
            Weight above = 0;
            for (int j = 0; j < shared.num_listed; j++)
                if (shared.list[j] < depth) above += weigh(shared.list[j]);
            if (above < limit) atomicMax(&shared.deepest, __float_as_uint(depth));
        }
        __syncthreads();
        return shared.deepest;
    }

    template <class Weigh>
    DEVICE Weight listed_above(Shared& shared, float depth, Weigh weigh) const {
        Weight sum = 0;
        for (int i = threadIdx.x; i < shared.num_listed; i += kThreads)
            if (shared.list[i] < depth) sum += weigh(shared.list[i]);
        return sum_of_block(sum, shared.sums);
    }

    // `cut`, of tokens that `list_best` has listed.
    DEVICE float cut_listed(Shared& shared, int top_k, float top_p) const {
        const float depth = __uint_as_float(deepest_listed(shared, One(), top_k));
        if (top_p >= 1.f) return depth;
        const Weight shallower = listed_above(shared, depth, One());
        const Weight mass = listed_above(shared, depth, Mass()) + (min(top_k, shared.num_listed) - shallower) * Mass()(depth);
        return min(depth, __uint_as_float(deepest_listed(shared, Mass(), limit_of(mass, top_p))));
    }

    // Of those that hold `mass`, the ones kept hold no less.
    DEVICE static Weight limit_of(Weight mass, float top_p) { return max(Weight(ceil(double(top_p) * double(mass))), Weight(1)); }
};

extern "C" __global__ __launch_bounds__(kThreads, 1) void choose_token(  // two blocks an SM would spill
    const SCALAR* all_logits, const Row* rows, const bool* seen, const int* outputs, long long* ids, int vocab, long long stride) {
    __shared__ Shared shared;
    dependents_may_start();
    wait_for_predecessor();
    const Row row = rows[blockIdx.x];
    const long long counts = (long long)(row.counts - 1) * vocab;
    const Logits logits = {
        all_logits + blockIdx.x * stride, row.counts ? seen + counts : nullptr, outputs + counts,
        row.repetition, 1.f / row.repetition, row.presence, row.frequency, row.mask, row.edits, int(row.num_edits), vocab};
    const Best nothing = {never(), vocab, false};
    Best best = nothing;
    logits.each<4>([&](int v, float x) { best.take(x, v); });
    const float own = best.value;
    best = best_of_block(best, shared.best);
    const bool is_any = best.value > nothing.value;  // else the first id, as of equal ones
    if (row.temperature > 0.f && is_any && !best.is_nan) {
        const Depths depths = {logits, best.value, 1.f / max(row.temperature, kLowestTemperature)};
        const bool are_listed = row.top_k < vocab && row.top_k <= kThreads && depths.list_best(shared, own, row.top_k);
        float deepest = min(-row.log_min_p, kDeepest);
        if (are_listed) deepest = min(deepest, depths.cut_listed(shared, row.top_k, row.top_p));
        else if (row.top_k < vocab || row.top_p < 1.f) deepest = min(deepest, depths.cut(shared, row.top_k, row.top_p));
        const unsigned low = unsigned(row.key_low), high = unsigned(row.key_high);
        best = nothing;
        const auto draw = [&](int v, float depth) {
            const float y = -depth;
            if (depth > deepest) return;
            const float share = uniform(low, high, unsigned(v));
            // Noise is -log(-log1p(-share)), at most -log(share): few tokens need to know it exactly.
            if (y - __logf(share) + kSlack < best.value) return;
            best.take(y - logf(-log1pf(-share)), v);
        };
        if (are_listed)
            for (int i = threadIdx.x; i < shared.num_listed; i += kThreads) draw(shared.few.ids[i], shared.list[i]);
        else logits.each([&](int v, float x) { draw(v, depths.of(x)); });
        best = best_of_block(best, shared.best);
    }
    if (threadIdx.x == 0) ids[blockIdx.x] = best.is_nan ? vocab : is_any ? best.id : 0;
}
