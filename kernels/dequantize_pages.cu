/* dequantize_pages.cu - the quantized pages of some sequences as pages of numbers, packed one behind the other.

   Page p of sequence b becomes page first(b) + p, first(b) = sum over b' < b of ceil(kv_lens[b'] / PAGE_TOKENS).
   Formats and formulas of a row: engines/memory/kv_layer.py.

   in       keys, values [pages, KV_HEADS, PAGE_TOKENS, bytes of a row], key_scales, value_scales [.., 2 or 1]
            pages [B, `most_pages`], rows `pages_stride` apart, int32   kv_lens [num_seqs] int32
   out      out_keys, out_values [room, KV_HEADS, PAGE_TOKENS, DIM] SCALAR, the sum of the sequences' pages are written
            places [B, `most_pages`] int32: where each page stands; 0 behind a sequence's last; rows of empty sequences are left
   -D       SCALAR = bf16 | fp16; KV_HEADS; DIM, multiple of 16; PAGE_TOKENS; KV_FORMAT = 1 int8 | 2 int4 | 3 fp8 | 4 bf12
   launch   grid (room, 2 * KV_HEADS), room at least the sum of the sequences' pages, block 256; the keys or values of a page
            and head a block, 8 elements a thread and turn. Lengths are read on the device: a graph that leaves enough room serves every step
   moves    2 * rows * (bytes of a row + 2 * DIM)
   numbers  fp32, rounded once: within 1 ulp of the torch twin, whose product and sum are not fused
*/
#include "device/bf12.cuh"
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(KV_HEADS) || !defined(DIM) || !defined(PAGE_TOKENS) || !defined(KV_FORMAT)
#error "dequantize_pages.cu needs -DSCALAR -DKV_HEADS -DDIM -DPAGE_TOKENS -DKV_FORMAT"
#endif

constexpr int kThreads = 256;
constexpr bool kNibbles = KV_FORMAT == 2, kFloats = KV_FORMAT == 3, kTwelve = KV_FORMAT == 4, kZeros = !kFloats && !kTwelve;
constexpr int kRowBytes = kTwelve ? DIM / 2 * 3 : kNibbles ? DIM / 2 : DIM, kPieces = DIM / 8;
static_assert(DIM % (kTwelve ? 32 : 16) == 0, "see the header");

DEVICE int pages_of(int len) { return (len + PAGE_TOKENS - 1) / PAGE_TOKENS; }

struct Page {
    int seq, index;  // seq -1: nobody's
};

// Whose page stands at a place; each warp finds it for itself.
DEVICE Page find_page(const int* kv_lens, int num_seqs, int place) {
    const int lane = threadIdx.x % 32;
    int before = 0;
    for (int base = 0; base < num_seqs; base += 32) {
        const int own = base + lane < num_seqs ? pages_of(kv_lens[base + lane]) : 0;
        int sum = own;
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
            const int other = __shfl_up_sync(0xffffffffu, sum, distance);
            if (lane >= distance) sum += other;
        }
        const unsigned behind = __ballot_sync(0xffffffffu, before + sum > place);
        if (behind) {
            const int source = __ffs(int(behind)) - 1;
            return {base + source, place - before - __shfl_sync(0xffffffffu, sum - own, source)};
        }
        before += __shfl_sync(0xffffffffu, sum, 31);
    }
    return {-1, 0};
}

// Elements 8n .. 8n + 7 of a group of 32, times 2^112: which is how fp16 reads their bits three places higher.
DEVICE void load_bf12(const unsigned char* group, int n, float (&x)[8]) {
    const uint4 own = load16(group + n % 3 * 16);  // of the fourth eight the first piece
    unsigned pairs[4] = {own.x, own.y, own.z, own.w};
    if (n == 3) {
        const uint4 b = load16(group + 16), c = load16(group + 32);
        const unsigned second[4] = {b.x, b.y, b.z, b.w}, third[4] = {c.x, c.y, c.z, c.w};
#pragma unroll
        for (int j = 0; j < 4; j++) pairs[j] = fourth_bf12(pairs[j], second[j], third[j]);
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const unsigned pair = (pairs[j] & 0x80008000u) | (pairs[j] & 0x07ff07ffu) << 3;
        x[2 * j] = low_half<fp16>(pair);
        x[2 * j + 1] = high_half<fp16>(pair);
    }
}

// Elements 8 * piece .. 8 * piece + 7 of a row, before scale and zero.
DEVICE void load_codes(const unsigned char* row, int piece, float (&x)[8]) {
    if constexpr (kNibbles) {
        const unsigned word = load4(row + piece * 4);
#pragma unroll
        for (int j = 0; j < 8; j++) x[j] = float(int(word >> 4 * (j % 2 * 4 + j / 2) & 15) - 8);
        return;
    }
    if constexpr (kTwelve) {
        load_bf12(row + piece / 4 * 48, piece % 4, x);
        return;
    }
    const uint2 words = *reinterpret_cast<const uint2*>(row + piece * 8);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        const unsigned code = (j < 4 ? words.x : words.y) >> 8 * (j % 4) & 255;
        // The bits of e4m3, moved to the places of fp16, are the number / 256.
        if constexpr (kFloats) x[j] = 256.f * low_half<fp16>((code & 128) << 8 | (code & 127) << 7);
        else x[j] = float(int(code) - 128);
    }
}

DEVICE void write_page(const unsigned char* rows, const fp16* scales, SCALAR* out) {
#pragma unroll 4
    for (int i = threadIdx.x; i < PAGE_TOKENS * kPieces; i += kThreads) {
        const int token = i / kPieces, piece = i % kPieces;
        float x[8];
        load_codes(rows + (long long)token * kRowBytes, piece, x);
        const unsigned parameters = kZeros ? load4(scales + 2 * token) : scales[token].bits;
        const float scale = kTwelve ? low_half<bf16>(parameters) : low_half<fp16>(parameters), zero = kZeros ? high_half<fp16>(parameters) : 0.f;
#pragma unroll
        for (int j = 0; j < 8; j++) x[j] = x[j] * scale + zero;
        store16(out + (long long)i * 8, pack16<SCALAR>(x));
    }
}

extern "C" __global__ __launch_bounds__(kThreads) void dequantize_pages(
    const unsigned char* keys, const unsigned char* values, const fp16* key_scales, const fp16* value_scales, const int* pages,
    const int* kv_lens, SCALAR* out_keys, SCALAR* out_values, int* places, int num_seqs, int pages_stride, int most_pages) {
    dependents_may_start();
    const int place = blockIdx.x, head = blockIdx.y / 2;
    const bool of_values = blockIdx.y % 2;
    const Page page = find_page(kv_lens, num_seqs, place);
    const long long number = page.seq < 0 ? 0 : pages[(long long)page.seq * pages_stride + page.index];
    wait_for_predecessor();  // lengths and pages are older than the kernel ahead
    if (page.seq < 0) return;
    if (blockIdx.y == 0) {
        int* row = places + (long long)page.seq * most_pages;
        const bool last = page.index + 1 == pages_of(kv_lens[page.seq]);
        const int end = last ? most_pages : page.index + 1;
        for (int i = page.index + threadIdx.x; i < end; i += kThreads) row[i] = i == page.index ? place : 0;
    }
    const long long from = (number * KV_HEADS + head) * PAGE_TOKENS;
    const long long to = ((long long)place * KV_HEADS + head) * PAGE_TOKENS * DIM;
    constexpr int kScales = kZeros ? 2 : 1;
    write_page((of_values ? values : keys) + from * kRowBytes, (of_values ? value_scales : key_scales) + from * kScales,
               (of_values ? out_values : out_keys) + to);
}
