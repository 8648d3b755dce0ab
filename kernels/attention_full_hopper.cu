/* attention_full_hopper.cu - `attention_full.cu` on sm_90a: same contract, warpgroup products.

   in       as there, and key_map, value_map: k and v as [I, LENGTH, HEADS, DIM], boxes of KEYS tokens x 64 of one head
            query_map: q as these, boxes of 64 * CONSUMERS tokens
   out      as there
   scratch  with LONE: shares, DIM + 8 floats for each of 3 warps of each item; arrivals, a zero for each head of each image, left so
   -D       HEADS and those of device/flash_hopper.cuh
   launch   grid at most one block an SM, block 128 * (CONSUMERS + 1), shared sizeof(Layout) + 1008
   moves    as there

   An item is 64 * CONSUMERS tokens of one head of one image; items of one head follow each other, so that its keys come from L2.
   With LONE, LENGTH is a multiple of that and one token, which has no item of its own.
*/
#if !defined(HEADS)
#error "attention_full_hopper.cu needs -DHEADS"
#endif

struct Item {
    int end, first;  // tiles of keys; end is 0 where there is no work left
    int num_keys, num_rows;
    int image, head, token;  // token: of row 0, in the image
};

#include "device/flash_hopper.cuh"
#include "device/lone_query.cuh"
#include "device/narrow_products.cuh"

struct Full {
    const TensorMap *key_map, *value_map, *query_map;
    const SCALAR *q, *keys, *values;
    SCALAR* out;
    int* counter;  // null: items are dealt by their index
    int num_images, length;
    long long q_stride, k_stride, v_stride;
    float scale_log2;
    float* shares;
    int* arrivals;

    static constexpr int kBoxKeys = KEYS;
    static constexpr bool kZeroFilled = true, kSplits = false, kSeesAll = true, kQueriesByEngine = kByEngine;

    DEVICE int num_blocks() const { return LONE ? length / kRows : (length + kRows - 1) / kRows; }
    DEVICE Item find(int index) const {
        const int blocks = num_blocks(), pair = index / blocks;
        Item item{};
        if (pair >= num_images * HEADS) return item;
        item.end = (length + KEYS - 1) / KEYS;
        item.num_keys = length;
        item.image = pair / HEADS;
        item.head = pair % HEADS;
        item.token = index % blocks * kRows;
        item.num_rows = min(kRows, length - item.token);
        return item;
    }

    DEVICE long long offset(const Item& item, int token, long long stride) const {
        return ((long long)item.image * length + token) * stride + item.head * DIM;
    }
    DEVICE const SCALAR* query(const Item& item, int row) const {
        return row < item.num_rows ? q + offset(item, item.token + row, q_stride) : nullptr;
    }
    DEVICE SCALAR* target(const Item& item, int row) const {
        return row < item.num_rows ? out + offset(item, item.token + row, HEADS * DIM) : nullptr;
    }
    DEVICE const SCALAR* key(const Item& item, int token) const {
        return token < length ? keys + offset(item, token, k_stride) : nullptr;
    }
    DEVICE const SCALAR* value(const Item& item, int token) const {
        return token < length ? values + offset(item, token, v_stride) : nullptr;
    }

    // The last token's query against one stretch of the keys, `warp` of three beside this item.
    DEVICE void attend_alone(const Item& item, int warp) const {
        const int count = 3 * num_blocks(), index = item.token / kRows * 3 + warp, pair = item.image * HEADS + item.head;
        const int first = (long long)length * index / count, end = (long long)length * (index + 1) / count;
        const Stretch mine =
            attend_stretch(q + offset(item, length - 1, q_stride), keys + offset(item, 0, k_stride), values + offset(item, 0, v_stride),
                           k_stride, v_stride, first, end, scale_log2);
        leave_stretch(mine, shares + (long long)pair * count * kStretch, index, count, arrivals[pair],
                      out + offset(item, length - 1, HEADS * DIM));
    }

    DEVICE int from(const Item&, int) const { return 0; }
    DEVICE int to(const Item&, int) const { return length; }

    DEVICE void copy_queries(void* to, const Item& item, int block, Barrier& full) const {
        copy_box(to, *query_map, block * 64, item.head, item.token, item.image, full);
    }

    DEVICE int num_boxes(const Item&, int) const { return 1; }
    DEVICE int box(const Item& item, int tile, int) const { return tile * KEYS; }
    DEVICE void copy(void* to, bool values, const Item& item, int block, int box, Barrier& full) const {
        copy_box(to, values ? *value_map : *key_map, block * 64, item.head, box, item.image, full);
    }
};
static_assert(KEYS <= 256 && kRows <= 256, "a box takes a tile, and an item's queries");

extern "C" __global__ __launch_bounds__(kThreads, 1) void attention_full_hopper(
    const __grid_constant__ TensorMap key_map, const __grid_constant__ TensorMap value_map,
    const __grid_constant__ TensorMap query_map, const SCALAR* q,
    const SCALAR* keys, const SCALAR* values, SCALAR* out, int num_images, int length, long long q_stride, long long k_stride,
    long long v_stride, float scale_log2, float* shares, int* arrivals) {
    DYNAMIC_SHARED(memory);
    if (threadIdx.x == 0) {
        prefetch_map(query_map);
        prefetch_map(key_map);
        prefetch_map(value_map);
    }
    const Full task{&key_map,   &value_map, &query_map, q,        keys,     values,     out,    nullptr,
                    num_images, length,     q_stride,   k_stride, v_stride, scale_log2, shares, arrivals};
    run_task(task, memory);
}
