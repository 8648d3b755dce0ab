/* attention_prefill_hopper.cu - `attention_prefill.cu` on sm_90a: same contract, warpgroup products.

   in       as there, and key_map, value_map: the pools as [pages * KV_HEADS * PAGE_TOKENS, DIM], boxes of BOX_KEYS rows x 64;
            or, with CODE_STAGES, keys, values: codes; key_scales, value_scales: their parameters; formats as in engines/memory/kv_layer.py
            counter [1] int32, zero before and after; null: item i is block i % blocks'
   scratch  shares: gridDim.x * CONSUMERS * kShare floats; arrivals [gridDim.x * CONSUMERS] int32, zero before and after
   out      as there
   -D       KV_HEADS; GROUP; PAGE_TOKENS; WINDOW; BOX_KEYS, divides KEYS and PAGE_TOKENS; those of device/flash_hopper.cuh;
            with CODE_STAGES KV_FORMAT = 1 int8 | 2 int4 | 3 fp8 | 4 bf12 (SCALAR bf16)
   launch   grid at most one block an SM, block 128 * (CONSUMERS + PRODUCERS), shared sizeof(Layout) + 1008
   moves    as there; codes once for each item, which is 64 * CONSUMERS / GROUP tokens

   Where items are few, each of heads up to 128 is split along its keys into parts of LEAST_TILES tiles and more, and the last block to finish one sums.

   An item is a KV head and 64 * CONSUMERS rows of a sequence, rows being (token, head of the group) pairs, heads fastest. The
   items with the most keys of a sequence come first, and blocks take them from the counter as they become free.
*/
#if !defined(KV_HEADS) || !defined(GROUP) || !defined(PAGE_TOKENS) || !defined(WINDOW) || !defined(BOX_KEYS)
#error "attention_prefill_hopper.cu needs -DKV_HEADS -DGROUP -DPAGE_TOKENS -DWINDOW -DBOX_KEYS"
#endif

struct Item {
    int end, first;       // tiles of keys; end is 0 where there is no work left
    int num_keys;         // that any row sees, from the sequence's first on
    int num_rows;
    int seq, head;
    int token, position;  // of row 0, in q and in the sequence; row r is `(lead + r) / GROUP` tokens further
    int lead;
    int index, part, parts;  // shares of the item's parts stand from `index` on; this is part `part` of `parts`
};

#include "device/flash_hopper.cuh"

struct Pool {
#if CODE_STAGES
    const unsigned char *keys, *values;
    const fp16 *key_scales, *value_scales;
#else
    const TensorMap *key_map, *value_map;
    const SCALAR *keys, *values;
#endif
};

struct Prefill {
    Pool pool;
    const SCALAR* q;
    const int *pages, *q_starts, *kv_lens;
    SCALAR* out;
    int* counter;
    float* shares;
    int* arrivals;
    int num_seqs, pages_stride;
    long long q_stride;
    float scale_log2;

    static constexpr int kBoxKeys = BOX_KEYS;
    static constexpr bool kSeesAll = false;
    static constexpr bool kQueriesByEngine = false;  // rows of a step start anywhere
    static constexpr bool kZeroFilled = !kByEngine, kSplits = DIM <= 128;  // sums of wider heads leave no registers to add others

    DEVICE int blocks_of(int seq) const {
        return seq < num_seqs ? ((q_starts[seq + 1] - q_starts[seq]) * GROUP + kRows - 1) / kRows : 0;
    }

    // Parts that every item has, at most: where all items leave half of the GPU without work, they share it.
    DEVICE int most_parts() const {
        if (!kSplits) return 1;
        int blocks = 0;
        for (int seq = threadIdx.x % 32; seq < num_seqs; seq += 32) blocks += blocks_of(seq);
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) blocks += __shfl_xor_sync(0xffffffffu, blocks, distance);
        return max(int(gridDim.x) / max(blocks * KV_HEADS, 1), 1);
    }

    // The index-th part of an item. The last one to ask leaves the counter as it was.
    DEVICE Item find(int index) const {
        const int parts = most_parts(), lane = threadIdx.x % 32, block = index / parts, wanted = block / KV_HEADS;
        int before = 0;
        for (int base = 0; base < num_seqs; base += 32) {
            const int seq = base + lane;
            int sum = blocks_of(seq);
#pragma unroll
            for (int distance = 1; distance < 32; distance *= 2) {
                const int other = __shfl_up_sync(0xffffffffu, sum, distance);
                if (lane >= distance) sum += other;
            }
            const unsigned behind = __ballot_sync(0xffffffffu, before + sum > wanted);
            if (behind) {
                const int source = __ffs(int(behind)) - 1;
                Item found = item(base + source, before + __shfl_sync(0xffffffffu, sum, source) - 1 - wanted, block % KV_HEADS);
                found.index = block * parts;
                take_part(found, index % parts, parts);
                return found;
            }
            before += __shfl_sync(0xffffffffu, sum, 31);
        }
        if (counter && threadIdx.x == 0 && index == before * KV_HEADS * parts + int(gridDim.x) - 1) *counter = 0;
        return Item{};
    }

    // Tiles of one part; without rows where the item has too few tiles for it.
    DEVICE static void take_part(Item& item, int part, int parts) {
        const int tiles = item.end - item.first, first = item.first;
        item.part = part;
        item.parts = max(min(parts, tiles / LEAST_TILES), 1);
        if (part < item.parts) {
            item.first = first + tiles * part / item.parts;
            item.end = first + tiles * (part + 1) / item.parts;
        } else {
            item.first = item.end = 1;
            item.num_rows = 0;
        }
    }

    DEVICE Item item(int seq, int block, int head) const {
        const int q_start = q_starts[seq], num_tokens = q_starts[seq + 1] - q_start, first_row = block * kRows;
        const int end_row = min(first_row + kRows, num_tokens * GROUP), history = kv_lens[seq] - num_tokens;
        const int low = history + first_row / GROUP, high = history + (end_row - 1) / GROUP;
        Item item;
        item.first = WINDOW > 0 ? max(0, low - WINDOW + 1) / KEYS : 0;
        item.end = high / KEYS + 1;
        item.num_keys = high + 1;
        item.num_rows = end_row - first_row;
        item.seq = seq;
        item.head = head;
        item.token = q_start + first_row / GROUP;
        item.position = low;
        item.lead = first_row % GROUP;
        return item;
    }

    DEVICE long long offset(const Item& item, int row, long long stride) const {
        const int packed = item.lead + row;
        return (item.token + packed / GROUP) * stride + (item.head * GROUP + packed % GROUP) * DIM;
    }
    DEVICE const SCALAR* query(const Item& item, int row) const {
        return row < item.num_rows ? q + offset(item, row, q_stride) : nullptr;
    }
    DEVICE SCALAR* target(const Item& item, int row) const {
        return row < item.num_rows ? out + offset(item, row, (long long)KV_HEADS * GROUP * DIM) : nullptr;
    }

    // Keys that a row sees.
    DEVICE int to(const Item& item, int row) const { return item.position + (item.lead + row) / GROUP + 1; }
    DEVICE int from(const Item& item, int row) const { return WINDOW > 0 ? max(0, to(item, row) - WINDOW) : 0; }

    // Row of the pool that token `token` of the sequence has.
    DEVICE long long place(const Item& item, int token) const {
        const long long page = pages[(long long)item.seq * pages_stride + token / PAGE_TOKENS];
        return (page * KV_HEADS + item.head) * PAGE_TOKENS + token % PAGE_TOKENS;
    }
#if !CODE_STAGES
    DEVICE const SCALAR* key(const Item& item, int token) const {
        return token < item.num_keys ? pool.keys + place(item, token) * DIM : nullptr;
    }
    DEVICE const SCALAR* value(const Item& item, int token) const {
        return token < item.num_keys ? pool.values + place(item, token) * DIM : nullptr;
    }
#endif

    DEVICE int num_boxes(const Item& item, int tile) const {
        return min(KEYS / BOX_KEYS, (item.num_keys - tile * KEYS + BOX_KEYS - 1) / BOX_KEYS);
    }
    DEVICE int box(const Item& item, int tile, int index) const {
        return index < num_boxes(item, tile) ? int(place(item, tile * KEYS + index * BOX_KEYS)) : 0;
    }
#if CODE_STAGES
    static constexpr int kCodeBox = BOX_KEYS < kOwnRows ? BOX_KEYS : kOwnRows;

    DEVICE void copy_codes(CodeTile& to, bool values, int row, long long box, Barrier& full) const {
        const unsigned char* parameters = reinterpret_cast<const unsigned char*>(values ? pool.value_scales : pool.key_scales);
        copy_bytes(to.rows + row * kRowBytes, (values ? pool.values : pool.keys) + box * kRowBytes, kCodeBox * kRowBytes, full);
        copy_bytes(to.parameters + row * kScaleBytes, parameters + box * kScaleBytes, kCodeBox * kScaleBytes, full);
    }
#else
    DEVICE void copy(void* to, bool values, const Item&, int block, int box, Barrier& full) const {
        copy_box(to, values ? *pool.value_map : *pool.key_map, block * 64, box, full);
    }
#endif
};
static_assert(KEYS % BOX_KEYS == 0 && PAGE_TOKENS % BOX_KEYS == 0 && BOX_KEYS % 8 == 0 && KEYS / BOX_KEYS <= 32, "see the header");

extern "C" __global__ __launch_bounds__(kThreads, 1) void attention_prefill_hopper(
#if CODE_STAGES
    const unsigned char* keys, const unsigned char* values, const fp16* key_scales, const fp16* value_scales,
#else
    const __grid_constant__ TensorMap key_map, const __grid_constant__ TensorMap value_map, const SCALAR* keys, const SCALAR* values,
#endif
    const SCALAR* q, const int* pages, const int* q_starts, const int* kv_lens, SCALAR* out, int* counter, float* shares,
    int* arrivals, int num_seqs, int pages_stride, long long q_stride, float scale_log2) {
    DYNAMIC_SHARED(memory);
#if CODE_STAGES
    const Pool pool{keys, values, key_scales, value_scales};
#else
    const Pool pool{&key_map, &value_map, keys, values};
#endif
    const Prefill task{pool, q, pages, q_starts, kv_lens, out, counter, shares, arrivals, num_seqs, pages_stride,
                       q_stride, scale_log2};
    run_task(task, memory);
}
