/* sum_ranks_norm.cu - few rows summed over the ranks of one host, added to the residual and normed, in one step.

   x[t] = sum over ranks of x[t], as sum_ranks.cu takes it;  sum[t] = cast(x[t] + residual[t])
   out[t] = cast(sum[t] * rsqrt(mean(sum[t]^2) + eps)) * w

   in       x, residual [T, HIDDEN], w [HIDDEN] SCALAR, contiguous rows; residual and w are the same on every rank   eps float
            boxes [RANKS] addresses of the ranks' boxes, as this one sees them
            epochs [MOST_ROWS]: how often a row of this place has been summed; the same on every rank, 0 at first
   out      out, sum [T, HIDDEN] SCALAR, may alias x and residual; with CODE out is codes [T, HIDDEN] and scale [T] fp32,
            as quantize_rows.cu makes them of the normed row, which is never written itself
   box      memory of one rank that all write into, zero at first: slots [2][RANKS][MOST_ROWS][SLOT_BYTES], rows that a rank gave,
            for even and for odd epochs
   -D       SCALAR = bf16 | fp16 | fp32; RANKS; MOST_ROWS; SLOT_BYTES, twice a row's or more; HIDDEN, THREADS as in norm.cu;
            CODE = e4m3 (from sm_89 on) | int8, or none
   launch   grid T, at most MOST_ROWS; block THREADS; one row a block, held in registers. All ranks launch the same
   moves    twice a row to each other rank, 3 + 2 * RANKS rows from and to memory
   numbers  those of sum_ranks and of add_rms_norm, or add_rms_norm_codes with as many THREADS, in turn, to the bit

   Every four bytes travel with their epoch in one word of eight, which arrives whole: whoever sees the epoch has the numbers.
   A flag behind the numbers would have to wait until all of them have arrived, one more way between two GPUs; the price is
   twice the bytes, so many rows go through sum_ranks.cu. Why two halves of a box are enough is said there: what is seen of the
   sum between are its numbers.
*/
#if !defined(SCALAR) || !defined(RANKS) || !defined(MOST_ROWS) || !defined(SLOT_BYTES) || !defined(HIDDEN) || !defined(THREADS)
#error "sum_ranks_norm.cu needs -DSCALAR -DRANKS -DMOST_ROWS -DSLOT_BYTES -DHIDDEN -DTHREADS"
#endif
#include "device/packed_row.cuh"

static_assert(RANKS >= 2 && 32 * kPieces <= SLOT_BYTES, "see the header");
#ifdef CODE
using Out = unsigned char;
static_assert(kN == 8, "codes are made of 16 bits");
#else
using Out = SCALAR;
#endif

// Where a rank finds the row of this block that another one gave it, 32 bytes a piece.
DEVICE unsigned char* slot(unsigned char* box, unsigned epoch, int from) {
    return box + (((long long)(epoch % 2) * RANKS + from) * MOST_ROWS + blockIdx.x) * SLOT_BYTES;
}

DEVICE unsigned long long word_of(unsigned numbers, unsigned epoch) { return (unsigned long long)epoch << 32 | numbers; }

DEVICE void give(unsigned char* slot, int piece, uint4 numbers, unsigned epoch) {
    unsigned char* to = slot + 16 * piece;
    store_words(to, word_of(numbers.x, epoch), word_of(numbers.y, epoch));
    store_words(to + 16 * kPieces, word_of(numbers.z, epoch), word_of(numbers.w, epoch));
}

// Two words of a piece once both are of this epoch.
DEVICE uint2 awaited(const unsigned char* from, unsigned epoch) {
    unsigned long long first, second;
    do load_words(from, first, second);
    while (unsigned(first >> 32) != epoch || unsigned(second >> 32) != epoch);
    return make_uint2(unsigned(first), unsigned(second));
}

DEVICE uint4 taken(const unsigned char* slot, int piece, unsigned epoch) {
    const uint2 low = awaited(slot + 16 * piece, epoch), high = awaited(slot + 16 * (kPieces + piece), epoch);
    return make_uint4(low.x, low.y, high.x, high.y);
}

extern "C" __global__ __launch_bounds__(THREADS) void sum_add_rms_norm(
    const SCALAR* x, const SCALAR* residual, const SCALAR* w, Out* out, float* scale, SCALAR* sum, float eps,
    unsigned char* const* boxes, unsigned* epochs, int rank) {
    __shared__ float partial[32];
    dependents_may_start();
    Row row, rest, weights;
    unsigned char* box[RANKS];
#pragma unroll
    for (int i = 0; i < RANKS; i++) box[i] = boxes[(rank + i) % RANKS];  // the own one first; no kernel writes addresses
    each_piece([&](int i, int at) { weights[i] = load16(w + at); });  // or weights
    wait_for_predecessor();
    const long long start = (long long)blockIdx.x * HIDDEN;
    const unsigned epoch = epochs[blockIdx.x] + 1;
    each_piece([&](int i, int at) { row[i] = load16(x + start + at); });
#pragma unroll
    for (int other = 1; other < RANKS; other++)
        each_piece([&](int i, int at) { give(slot(box[other], epoch, rank), at / kN, row[i], epoch); });
    each_piece([&](int i, int at) { rest[i] = load16(residual + start + at); });
    float squares = 0.f;
    each_piece([&](int i, int at) {
        float total[kN] = {}, addend[kN];
#pragma unroll
        for (int from = 0; from < RANKS; from++) {
            unpack16<SCALAR>(from == rank ? row[i] : taken(slot(box[0], epoch, from), at / kN, epoch), addend);
#pragma unroll
            for (int j = 0; j < kN; j++) total[j] += addend[j];
        }
        round_to<SCALAR>(total);
        unpack16<SCALAR>(rest[i], addend);
#pragma unroll
        for (int j = 0; j < kN; j++) total[j] += addend[j];
        row[i] = pack16<SCALAR>(total);
        store16(sum + start + at, row[i]);
        unpack16<SCALAR>(row[i], total);
#pragma unroll
        for (int j = 0; j < kN; j++) squares += total[j] * total[j];
    });
    const float factor = rsqrtf(block_sum(squares, partial) / HIDDEN + eps);
    if (threadIdx.x == 0) epochs[blockIdx.x] = epoch;  // behind the barrier of the sum: all have read it
    scale_row(row, weights, factor);
#ifdef CODE
    write_codes<CODE>(row, out, scale);
#else
    each_piece([&](int i, int at) { store16(out + start + at, row[i]); });
#endif
}
