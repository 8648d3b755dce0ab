/* flash.cuh - one block of attention: ROWS query rows against a range of keys, softmax on the way, on m16n8k16 products.

   Where rows and keys lie, and which pairs see each other, is the caller's: `attention_prefill.cu` and `attention_full.cu`.
   A warp owns 16 * ROW_TILES rows. Keys and values of KEYS tokens stand in shared memory twice: one tile arrives while the other
   is worked on, SPAN keys at a time, as many as scores fit into registers. One barrier a tile.

   -D  SCALAR = bf16 | fp16; DIM, multiple of 16; WARPS; ROW_TILES; KEYS, multiple of SPAN; SPAN, multiple of 16; BLOCKS_PER_SM
*/
#pragma once
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(DIM) || !defined(WARPS) || !defined(ROW_TILES) || !defined(KEYS) || !defined(SPAN) || \
    !defined(BLOCKS_PER_SM)
#error "flash.cuh needs -DSCALAR -DDIM -DWARPS -DROW_TILES -DKEYS -DSPAN -DBLOCKS_PER_SM"
#endif

constexpr int kThreads = 32 * WARPS;
constexpr int kWarpRows = 16 * ROW_TILES;
constexpr int kRows = kWarpRows * WARPS;
constexpr int kPitch = DIM * 2 + 16;  // bytes of a row in shared memory; 16 more keep ldmatrix free of conflicts
constexpr int kPieces = DIM / 8;      // of 16 bytes, in a row
constexpr int kSteps = DIM / 16;
constexpr int kKeyTiles = SPAN / 8;
constexpr float kNone = -1e30f;       // the score of a hidden key
constexpr float kLow = -1e20f;        // below every score, so far above scaled kNone that hidden keys weigh 0 from the start
static_assert(DIM % 16 == 0 && SPAN % 16 == 0 && KEYS % SPAN == 0, "see the header");

struct Layout {  // of the dynamic shared memory
    unsigned char query[kRows * kPitch];
    unsigned char keys[2][KEYS * kPitch];
    unsigned char values[2][KEYS * kPitch];
};

// Start copies of COUNT rows, zeros where source(row) is null.
template <int COUNT, class Source>
DEVICE void fetch_rows(unsigned char* to, Source source) {
#pragma unroll
    for (int i = 0; i < (COUNT * kPieces + kThreads - 1) / kThreads; i++) {
        const int piece = i * kThreads + threadIdx.x, row = piece / kPieces, column = piece % kPieces;
        if (COUNT * kPieces % kThreads != 0 && piece >= COUNT * kPieces) break;
        const SCALAR* from = source(row);
        copy16_async(to + row * kPitch + column * 16, from + (from ? column * 8 : 0), from != nullptr);
    }
}

// The running softmax of one warp's rows. Lane 4g + c holds rows 16 m + g and + 8 of row tile m.
struct Rows {
    float peak[ROW_TILES][2], weight[ROW_TILES][2];  // weight: this lane's keys only, until `write`
    float sum[ROW_TILES][DIM / 8][4];
    float score[ROW_TILES][kKeyTiles][4];

    DEVICE void open() {
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++) {
            peak[m][0] = peak[m][1] = kLow;
            weight[m][0] = weight[m][1] = 0.f;
#pragma unroll
            for (int n = 0; n < DIM / 8; n++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[m][n][j] = 0.f;
        }
    }

    // Scores of the SPAN keys at `span`.
    DEVICE void multiply_keys(const Layout& shared, const unsigned char* span) {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        const unsigned char* query = shared.query + (warp * kWarpRows + lane % 16) * kPitch + lane / 16 * 16;
        const unsigned char* keys = span + (lane / 16 * 8 + lane % 8) * kPitch + lane / 8 % 2 * 16;
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
            for (int n = 0; n < kKeyTiles; n++)
#pragma unroll
                for (int j = 0; j < 4; j++) score[m][n][j] = 0.f;
#pragma unroll
        for (int i = 0; i < kSteps; i++) {
            unsigned a[ROW_TILES][4];
#pragma unroll
            for (int m = 0; m < ROW_TILES; m++) load_matrix4(a[m], query + m * 16 * kPitch + i * 32);
#pragma unroll
            for (int n = 0; n < kKeyTiles; n += 2) {
                unsigned b[4];
                load_matrix4(b, keys + n * 8 * kPitch + i * 32);
#pragma unroll
                for (int m = 0; m < ROW_TILES; m++) {
                    mma16816<SCALAR>(score[m][n], a[m], b[0], b[1]);
                    mma16816<SCALAR>(score[m][n + 1], a[m], b[2], b[3]);
                }
            }
        }
    }

    // Scores become probabilities; sums so far are faded to the new maxima. sees(m, half, key) says which pairs count.
    template <bool MASKED, class Sees>
    DEVICE void soften(float scale_log2, Sees sees) {
        const int c = threadIdx.x % 4;
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float top = kNone;
#pragma unroll
                for (int n = 0; n < kKeyTiles; n++)
#pragma unroll
                    for (int j = 2 * half; j < 2 * half + 2; j++) {
                        if (MASKED && !sees(m, half, n * 8 + 2 * c + j % 2)) score[m][n][j] = kNone;
                        top = max(top, score[m][n][j]);
                    }
                top = max(top, __shfl_xor_sync(0xffffffffu, top, 1));
                top = max(top, __shfl_xor_sync(0xffffffffu, top, 2));
                top = max(top * scale_log2, peak[m][half]);
                const float fade = exp2_fast(peak[m][half] - top);
                peak[m][half] = top;
                float total = 0.f;
#pragma unroll
                for (int n = 0; n < kKeyTiles; n++)
#pragma unroll
                    for (int j = 2 * half; j < 2 * half + 2; j++) {
                        score[m][n][j] = exp2_fast(score[m][n][j] * scale_log2 - top);
                        total += score[m][n][j];
                    }
                weight[m][half] = weight[m][half] * fade + total;
#pragma unroll
                for (int n = 0; n < DIM / 8; n++)
#pragma unroll
                    for (int j = 2 * half; j < 2 * half + 2; j++) sum[m][n][j] *= fade;
            }
    }

    DEVICE void multiply_values(const unsigned char* span) {
        const int lane = threadIdx.x % 32;
        const unsigned char* values = span + (lane / 8 % 2 * 8 + lane % 8) * kPitch + lane / 16 * 16;
#pragma unroll
        for (int i = 0; i < SPAN / 16; i++) {
            unsigned a[ROW_TILES][4];
#pragma unroll
            for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const float(&pair)[4] = score[m][2 * i + j / 2];
                    a[m][j] = pack2<SCALAR>(pair[j % 2 * 2], pair[j % 2 * 2 + 1]);
                }
#pragma unroll
            for (int n = 0; n < DIM / 8; n += 2) {
                unsigned b[4];
                load_matrix4_transposed(b, values + i * 16 * kPitch + n * 16);
#pragma unroll
                for (int m = 0; m < ROW_TILES; m++) {
                    mma16816<SCALAR>(sum[m][n], a[m], b[0], b[1]);
                    mma16816<SCALAR>(sum[m][n + 1], a[m], b[2], b[3]);
                }
            }
        }
    }

    // Normalise and write the rows for which target(row) is not null. The queries' place in shared memory turns them around.
    template <class Target>
    DEVICE void write(Layout& shared, Target target) {
        const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4;
        unsigned char* own = shared.query + warp * kWarpRows * kPitch;
        __syncwarp();  // all lanes have read the queries of this warp for the last time
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float total = weight[m][half];
                total += __shfl_xor_sync(0xffffffffu, total, 1);
                total += __shfl_xor_sync(0xffffffffu, total, 2);
                const float inverse = total > 0.f ? 1.f / total : 0.f;
                unsigned char* row = own + (16 * m + 8 * half + g) * kPitch + c * 4;
#pragma unroll
                for (int n = 0; n < DIM / 8; n++)
                    *reinterpret_cast<unsigned*>(row + n * 16) =
                        pack2<SCALAR>(sum[m][n][2 * half] * inverse, sum[m][n][2 * half + 1] * inverse);
            }
        __syncwarp();
        for (int piece = lane; piece < kWarpRows * kPieces; piece += 32) {
            const int row = piece / kPieces, column = piece % kPieces;
            SCALAR* to = target(warp * kWarpRows + row);
            if (to) store16(to + column * 8, load16(own + row * kPitch + column * 16));
        }
    }
};

// Attend from the block's rows to tiles [first, end) of KEYS keys each.
//   query(row), key(i), value(i)   where a row lies, null where there is none (it reads as zeros)
//   masked(i)                      whether any pair with keys i .. i + SPAN - 1 is hidden
//   sees(m, half, i)               whether that row sees key i
//   target(row)                    where its result goes, null for nowhere
template <class Query, class Key, class Value, class Masked, class Sees, class Target>
DEVICE void attend(Layout& shared, int first, int end, float scale_log2, Query query, Key key, Value value, Masked masked,
                   Sees sees, Target target) {
    const auto fetch_tile = [&](int tile) {
        fetch_rows<KEYS>(shared.keys[tile % 2], [&](int row) { return key(tile * KEYS + row); });
        fetch_rows<KEYS>(shared.values[tile % 2], [&](int row) { return value(tile * KEYS + row); });
        copies_commit();
    };
    Rows rows;
    rows.open();
    fetch_rows<kRows>(shared.query, query);
    fetch_tile(first);
    for (int tile = first; tile < end; tile++) {
        copies_wait<0>();
        __syncthreads();  // this tile is there, and the other one has been read by all
        if (tile + 1 < end) fetch_tile(tile + 1);
#pragma unroll 1
        for (int at = 0; at < KEYS; at += SPAN) {
            const int token = tile * KEYS + at;
            rows.multiply_keys(shared, shared.keys[tile % 2] + at * kPitch);
            if (masked(token)) rows.soften<true>(scale_log2, [&](int m, int half, int i) { return sees(m, half, token + i); });
            else rows.soften<false>(scale_log2, [](int, int, int) { return true; });
            rows.multiply_values(shared.values[tile % 2] + at * kPitch);
        }
    }
    rows.write(shared, target);
}
