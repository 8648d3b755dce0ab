/* step_rows.cu - what stands between two replayed steps: the next one laid out where its graph reads it, tokens brought to the host.

   lay_out_rows   row b < num of the step -> tokens[:, b] = id, position, rope length, slot, adapter; kv_lens[b]; pages[b, :]
                  with id = min(last_ids[source], vocab - 1) where source >= 0: what the step before samples, vocab marks a NaN
                  rows num ... gridDim.x - 1 become empty: slot and adapter -1, length 0
   copy_ids       to[i] = ids[i]

   in       rows [num, words] int32, each a row of engines/steps/decode_rows.py, in memory of the host or of the GPU
            last_ids [S] int64, read where a row has a source   ids [num] int64
   out      tokens [5, capacity] int64   kv_lens [capacity], pages [capacity, pages_stride] int32   to [num] int64, of the host or the GPU
   -D       PAGES, the word of a row where its pages begin
   launch   lay_out_rows: grid rows of the graph, block 128; copy_ids: grid ceil(num / 128), block 128
   moves    4 * num * words bytes from the host once, as much into the buffers
   numbers  integers
   entry    lay_out_rows, copy_ids

   Rows are read before the kernel ahead has ended: it knows nothing of them, and a read over the bus takes longer than the rest.
   No dependent starts early: attention reads lengths and pages before it waits.
*/
#ifndef PAGES
#error "step_rows.cu needs -DPAGES"
#endif
#include "device/ptx.cuh"

constexpr int kThreads = 128;
enum Word { kId, kPosition, kRopeLen, kSlot, kAdapter, kSource, kKvLen };
static_assert(PAGES == kKvLen + 1, "the words of engines/steps/decode_rows.py");

extern "C" __global__ __launch_bounds__(kThreads) void lay_out_rows(
    const int* rows, const long long* last_ids, long long* tokens, int* kv_lens, int* pages, int num, int words, int capacity,
    int pages_stride, int vocab) {
    const int row = blockIdx.x, thread = threadIdx.x;
    const int* from = rows + (long long)row * words;
    int own = 0, source = -1;
    if (row < num) {
        if (thread < words) own = from[thread];
        if (thread == kId) source = from[kSource];
    }
    wait_for_predecessor();
    if (row >= num) {
        if (thread == kSlot || thread == kAdapter) tokens[(long long)thread * capacity + row] = -1;
        if (thread == kKvLen) kv_lens[row] = 0;
        return;
    }
    if (source >= 0) {
        const long long last = last_ids[source];
        own = int(last < vocab ? last : vocab - 1);
    }
    if (thread <= kAdapter) tokens[(long long)thread * capacity + row] = own;
    if (thread == kKvLen) kv_lens[row] = own;
    for (int word = thread; word < words; word += kThreads)
        if (word >= PAGES) pages[(long long)row * pages_stride + word - PAGES] = word == thread ? own : from[word];
}

extern "C" __global__ __launch_bounds__(kThreads) void copy_ids(const long long* ids, long long* to, int num) {
    dependents_may_start();
    wait_for_predecessor();
    const int i = blockIdx.x * kThreads + threadIdx.x;
    if (i < num) to[i] = ids[i];
}
