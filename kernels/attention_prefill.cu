/* attention_prefill.cu - causal attention of the new tokens of each sequence over its pages.

   A sequence with q new tokens and n tokens in its pages has them at positions n - q .. n - 1; a token sees the keys at or
   before its own position, the last WINDOW of them where WINDOW is not 0.

   in       q [T, KV_HEADS * GROUP, DIM] SCALAR, tokens `q_stride` elements apart
            keys, values [pages, KV_HEADS, PAGE_TOKENS, DIM]   pages [B, pages_stride] int32
            q_starts [B + 1] int32: first token of each sequence in q   kv_lens [B] int32, new tokens included
   out      out [T, KV_HEADS * GROUP, DIM] contiguous
   -D       KV_HEADS; GROUP (query heads a KV head); PAGE_TOKENS; WINDOW; and those of device/flash.cuh
   launch   grid (KV_HEADS, at least sum of ceil(q * GROUP / rows of a block)), block 32 * WARPS,
            shared (rows + 4 * KEYS) * (2 * DIM + 16) bytes. Blocks without work end at once, so the host needs no lengths
   moves    2 * T * KV_HEADS * GROUP * DIM elements + the pages; does about 2 * KV_HEADS * GROUP * DIM * sum q * (2 n - q)
            operations, which bind from some hundred tokens on
   numbers  scores and sums in fp32, probabilities rounded to SCALAR before they meet the values

   The rows of a block are (token, head of the group) pairs, heads fastest: a block reads each key once for all heads that
   share it, and a short chunk still fills its rows.
*/
#include "device/flash.cuh"

#if !defined(KV_HEADS) || !defined(GROUP) || !defined(PAGE_TOKENS) || !defined(WINDOW)
#error "attention_prefill.cu needs -DKV_HEADS -DGROUP -DPAGE_TOKENS -DWINDOW"
#endif

struct Work {
    int seq, block;  // seq is -1 where there is no work
};

// Find the sequence and the block inside it that the index-th block works on; the last rows, with the most keys, come first.
DEVICE Work find_work(const int* q_starts, int num_seqs, int index) {
    const int lane = threadIdx.x % 32;
    int before = 0;
    for (int base = 0; base < num_seqs; base += 32) {
        const int seq = base + lane;
        const int blocks = seq < num_seqs ? ((q_starts[seq + 1] - q_starts[seq]) * GROUP + kRows - 1) / kRows : 0;
        int sum = blocks;
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
            const int other = __shfl_up_sync(0xffffffffu, sum, distance);
            if (lane >= distance) sum += other;
        }
        const unsigned behind = __ballot_sync(0xffffffffu, before + sum > index);
        if (behind) {
            const int source = __ffs(int(behind)) - 1;
            return {base + source, before + __shfl_sync(0xffffffffu, sum, source) - 1 - index};
        }
        before += __shfl_sync(0xffffffffu, sum, 31);
    }
    return {-1, 0};
}

extern "C" __global__ __launch_bounds__(32 * WARPS, BLOCKS_PER_SM) void attention_prefill(
    const SCALAR* q, const SCALAR* keys, const SCALAR* values, const int* pages, const int* q_starts, const int* kv_lens,
    SCALAR* out, int num_seqs, int pages_stride, long long q_stride, float scale_log2) {
    DYNAMIC_SHARED(memory);
    Layout& shared = *reinterpret_cast<Layout*>(memory);
    dependents_may_start();
    wait_for_predecessor();
    const Work work = find_work(q_starts, num_seqs, blockIdx.y);
    if (work.seq < 0) return;
    const int head = blockIdx.x, q_start = q_starts[work.seq], kv_len = kv_lens[work.seq];
    const int num_tokens = q_starts[work.seq + 1] - q_start, history = kv_len - num_tokens;
    const int first_row = work.block * kRows, end_row = min(first_row + kRows, num_tokens * GROUP);
    const int low = history + first_row / GROUP, high = history + (end_row - 1) / GROUP;  // positions of the block's rows
    const int first_key = WINDOW > 0 ? max(0, low - WINDOW + 1) : 0;
    const int* page_row = pages + (long long)work.seq * pages_stride;

    const auto row_place = [&](auto* base, long long stride, int row) {
        const int packed = first_row + row;
        return packed < end_row ? base + (q_start + packed / GROUP) * stride + (head * GROUP + packed % GROUP) * DIM : nullptr;
    };
    const auto key_place = [&](const SCALAR* base, int token) -> const SCALAR* {
        if (token > high) return nullptr;
        const long long page = page_row[token / PAGE_TOKENS];
        return base + ((page * KV_HEADS + head) * PAGE_TOKENS + token % PAGE_TOKENS) * DIM;
    };
    int position[ROW_TILES][2];  // of the rows this lane holds
#pragma unroll
    for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int row = threadIdx.x / 32 * kWarpRows + 16 * m + 8 * half + threadIdx.x % 32 / 4;
            position[m][half] = history + (first_row + row) / GROUP;
        }
    attend(
        shared, first_key / KEYS, high / KEYS + 1, scale_log2, [&](int row) { return row_place(q, q_stride, row); },
        [&](int token) { return key_place(keys, token); }, [&](int token) { return key_place(values, token); },
        [&](int token) { return token + SPAN - 1 > low || (WINDOW > 0 && token < high - WINDOW + 1); },
        [&](int m, int half, int token) {
            return token <= position[m][half] && (WINDOW == 0 || token > position[m][half] - WINDOW);
        },
        [&](int row) { return row_place(out, (long long)KV_HEADS * GROUP * DIM, row); });
}
