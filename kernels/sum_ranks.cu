/* sum_ranks.cu - the sum of a tensor over the ranks of one host, in one step: each gives its numbers to all others.

   x = sum over ranks of x, taken in the order of the ranks in fp32 and rounded once: the same bits on every rank

   in       x [16-byte pieces] SCALAR, written over   boxes [RANKS] addresses of the ranks' boxes, as this one sees them
            epochs [MOST_BLOCKS]: how often each block has summed; the same on every rank, 0 at first
   box      memory of one rank that all write into: pieces [2][RANKS][MOST_BLOCKS * 256] of 16 bytes, those that a rank gave,
            for even and for odd epochs; then flags [RANKS][MOST_BLOCKS], the last epoch that a rank has given
   -D       SCALAR = bf16 | fp16 | fp32; RANKS; MOST_BLOCKS
   launch   grid ceil(pieces / 256), at most MOST_BLOCKS; block 256, a piece a thread. All ranks launch the same
   moves    16 bytes a piece to each other rank, 16 * RANKS from memory
   numbers  as said; NCCL rounds to SCALAR between ranks where there are more than two

   Why two halves of a box are enough. A rank writes into a half again two sums later. It has then seen a flag of the sum between,
   which the other set in a kernel that began after it had read that half: launches of a stream wait for each other.
*/
#if !defined(SCALAR) || !defined(RANKS) || !defined(MOST_BLOCKS)
#error "sum_ranks.cu needs -DSCALAR -DRANKS -DMOST_BLOCKS"
#endif
#include "device/vector.cuh"

constexpr int kThreads = 256, kN = kLanes<SCALAR>;
constexpr long long kHalfPieces = (long long)RANKS * MOST_BLOCKS * kThreads;
static_assert(RANKS >= 2 && RANKS <= 32, "a thread a rank waits");

struct Box {
    unsigned char* start;

    DEVICE unsigned char* piece(unsigned epoch, int from, long long piece) const {
        return start + 16 * (epoch % 2 * kHalfPieces + (long long)from * MOST_BLOCKS * kThreads + piece);
    }
    DEVICE unsigned* flag(int from) const {
        return reinterpret_cast<unsigned*>(start + 2 * kHalfPieces * 16) + from * MOST_BLOCKS + blockIdx.x;
    }
};

extern "C" __global__ __launch_bounds__(kThreads) void sum_ranks(
    SCALAR* x, unsigned char* const* boxes, unsigned* epochs, int rank, int num_pieces) {
    dependents_may_start();
    wait_for_predecessor();
    const unsigned epoch = epochs[blockIdx.x] + 1;
    const int piece = blockIdx.x * kThreads + threadIdx.x;
    const bool holds = piece < num_pieces;
    SCALAR* at = x + (long long)piece * kN;
    const uint4 own = holds ? load16(at) : make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int i = 1; i < RANKS; i++)
        if (holds) store16(Box{boxes[(rank + i) % RANKS]}.piece(epoch, rank, piece), own);
    __syncthreads();  // what follows is seen after what the block has given
    if (threadIdx.x < RANKS && int(threadIdx.x) != rank) {
        store_release(Box{boxes[threadIdx.x]}.flag(rank), epoch);
        const unsigned* flag = Box{boxes[rank]}.flag(threadIdx.x);
        while (int(load_acquire(flag) - epoch) < 0) {}  // it may be one sum ahead
    }
    __syncthreads();
    if (threadIdx.x == 0) epochs[blockIdx.x] = epoch;
    if (!holds) return;
    float sum[kN] = {};
#pragma unroll
    for (int from = 0; from < RANKS; from++) {
        const unsigned char* given = Box{boxes[rank]}.piece(epoch, from, piece);
        float addend[kN];
        unpack16<SCALAR>(from == rank ? own : __ldcg(reinterpret_cast<const uint4*>(given)), addend);
#pragma unroll
        for (int j = 0; j < kN; j++) sum[j] += addend[j];
    }
    store16(at, pack16<SCALAR>(sum));
}
