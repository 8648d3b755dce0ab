/* flash_codes.cuh - the warpgroups of `flash_hopper.cuh` that copy, where keys and values are codes: they make them numbers.

   Formats and formulas of a row: engines/memory/kv_layer.py. A warp has its rows of every tile to itself: the copy engine brings them
   CODE_STAGES tiles ahead, its lanes turn them into SCALARs where the products read them. Numbers are rounded once; what
   precedes it errs by less than 2^-8 of a step. A lane reads 16-byte pieces in an order of its own, so that eight neighbours
   never meet in a bank.
*/
#pragma once
#include "device/bf12.cuh"
#include "device/codes.cuh"
#include "device/flash_copies.cuh"

constexpr int kOwnRows = KEYS / kDecoders, kParts = 32 / kOwnRows;  // rows of a warp, lanes of a row
constexpr int kLoadBytes = kTwelve ? 48 : 16;  // of codes, at once
constexpr int kLoads = kRowBytes / kLoadBytes;
constexpr int kNumbers = kNibbles || kTwelve ? 4 : 2;   // pieces of 8 SCALARs that they become
constexpr int kUnroll = kNibbles || kTwelve ? 1 : 4;    // loads at once, as far as registers go
constexpr int kSpread = kLoads & (kLoads - 1) ? 1 : kLoads < 8 ? kLoads : 8;  // orders that neighbours have
static_assert(KEYS % (8 * kDecoders) == 0 && kOwnRows <= 32, "rows of a warp fill its lanes, in eights");

#if KV_FORMAT == 4
// A row's numbers are those of 12 bits, times 2^112, times a power of two: both exact.
struct Decoder {
    static constexpr unsigned kPowers = 0x77807780u;
    unsigned powers;

    DEVICE Decoder(unsigned parameters, bool real) : powers(real ? parameters << 16 | parameters : 0) {}

    DEVICE uint4 numbers(uint4 pairs) const {
        return make_uint4(number(pairs.x), number(pairs.y), number(pairs.z), number(pairs.w));
    }

    DEVICE unsigned number(unsigned pair) const { return scale2(scale2(pair & kBf12Bits, kPowers), powers); }

    // Four pieces of 8 numbers, of three of codes.
    DEVICE void pieces(const unsigned char* from, bool, uint4 (&to)[kNumbers]) const {
        const uint4 a = load16(from), b = load16(from + 16), c = load16(from + 32);
        to[0] = numbers(a);
        to[1] = numbers(b);
        to[2] = numbers(c);
        to[3] = numbers(make_uint4(fourth_bf12(a.x, b.x, c.x), fourth_bf12(a.y, b.y, c.y), fourth_bf12(a.z, b.z, c.z),
                                   fourth_bf12(a.w, b.w, c.w)));
    }
};
#else
// A row's numbers are code * factor + bias.
struct Decoder {
    float factor[3], bias[3];

    DEVICE Decoder(unsigned parameters, bool real) {
        const float scale = real ? low_half<fp16>(parameters) : 0.f, zero = real && !kFloats ? high_half<fp16>(parameters) : 0.f;
        constexpr float middle = kNibbles ? 8.f : 128.f;
#pragma unroll
        for (int i = 0; i < 3; i++) {
            factor[i] = kFloats ? scale : scale * place_value(i);
            bias[i] = zero - scale * (middle + 128.f * place_value(i));
        }
    }

    // An integer code in bits 8 + 4i.. of the mantissa of 128 is the number 128 + code / place_value(i).
    DEVICE static constexpr float place_value(int i) { return i == 0 ? 256.f : i == 1 ? 16.f : 1.f; }

    DEVICE float number(unsigned bits, int place) const { return __uint_as_float(bits) * factor[place] + bias[place]; }

    // The 8 numbers of one word of 4-bit codes, or of two words.
    DEVICE uint4 numbers(unsigned low, unsigned high) const {
        float x[8];
        if constexpr (kNibbles) {
            const unsigned words[3] = {low << 8, low, low >> 12};  // nibbles 0 and 1, 2 to 4, 5 to 7 stand in bits 8 to 19
#pragma unroll
            for (int n = 0; n < 8; n++) {
                const int place = n < 2 ? n : (n - 2) % 3;
                x[n < 4 ? 2 * n : 2 * n - 7] = number((words[n < 2 ? 0 : n < 5 ? 1 : 2] & 0xfu << (8 + 4 * place)) | 0x43000000u, place);
            }
        } else {
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const unsigned word = j < 4 ? low : high;
                if constexpr (kFloats) {
                    const unsigned pair = halves_of_e4m3(word >> j % 4 / 2 * 16);
                    x[j] = (j % 2 ? high_half<fp16>(pair) : low_half<fp16>(pair)) * factor[0];
                } else {
                    x[j] = number(__byte_perm(word, 0x43000000u, 0x7604 | j % 4 << 4), 0);
                }
            }
        }
        return pack16<SCALAR>(x);
    }

    // Pieces of 8 numbers of 16 bytes of codes.
    DEVICE void pieces(const unsigned char* from, bool real, uint4 (&to)[kNumbers]) const {
        uint4 codes = load16(from);
        if (kFloats && !real) codes = make_uint4(0, 0, 0, 0);  // they may be NaN
        const unsigned words[4] = {codes.x, codes.y, codes.z, codes.w};
#pragma unroll
        for (int n = 0; n < kNumbers; n++) to[n] = numbers(words[kNibbles ? n : 2 * n], words[kNibbles ? n : 2 * n + 1]);
    }
};
#endif

// Rows from `num_real` on are nobody's and become zeros.
DEVICE void decode_rows(const CodeTile& from, Tile& to, int num_real) {
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * kOwnRows + lane % kOwnRows, part = lane / kOwnRows;
    const bool real = row < num_real;
    const unsigned char* parameters = from.parameters + row * kScaleBytes;
    const Decoder decoder(kZeros ? load4(parameters) : *reinterpret_cast<const unsigned short*>(parameters), real);
    // Places are exclusive ors of a thread's own and of what the compiler knows.
    const int own = kSpread > 1 ? row / (8 / kSpread) % kSpread ^ part : part;
    const int source = row * kRowBytes + own * kLoadBytes, target = own * kNumbers / 8 * (KEYS * 128) | swizzled(row, own * kNumbers % 8);
#pragma unroll kUnroll
    for (int i = 0; i < kLoads; i += kParts) {
        if (kLoads % kParts && i + part >= kLoads) break;
        uint4 numbers[kNumbers];
        const int at = kSpread == 1 ? source + i * kLoadBytes : kTwelve ? row * kRowBytes + (own ^ i) * kLoadBytes : source ^ i * kLoadBytes;
        decoder.pieces(from.rows + at, real, numbers);
#pragma unroll
        for (int n = 0; n < kNumbers; n++) {
            const int piece = i * kNumbers + n;
            const int place = kSpread > 1 ? target ^ (piece / 8 * (KEYS * 128) | piece % 8 * 16)
                                          : (own * kNumbers + piece) / 8 * (KEYS * 128) + swizzled(row, own * kNumbers + piece);
            store16(to.block[0] + place, numbers[n]);
        }
    }
}

// What is decoded when: keys run one tile ahead of values, as they are used.
struct Turn {
    bool of_values;
    int tile;  // from the item's first on

    DEVICE Turn(int index, int count) : of_values(index > 0 && (index % 2 == 0 || index == count - 1)) {
        tile = of_values ? (index - 1) / 2 : (index + 1) / 2;
    }
};

// This lane's box of the codes that are decoded `index`-th: its first row in the pool, -1 where there is none.
template <class Task>
DEVICE int find_box(const Task& task, const Item& item, int index, int count) {
    if (index >= count || threadIdx.x % 32 >= kOwnRows / Task::kCodeBox) return -1;
    const int row = threadIdx.x / 32 * kOwnRows + threadIdx.x % 32 * Task::kCodeBox;
    const int token = (item.first + Turn(index, count).tile) * KEYS + row;
    return token < item.num_keys ? int(task.place(item, token)) : -1;
}

// Let the copy engine fetch this warp's rows of them.
template <class Task>
DEVICE void fetch_codes(const Task& task, const Item& item, int index, int count, int box, CodeTile& to, Barrier& full) {
    if (index >= count) return;
    const Turn turn(index, count);
    const int first = threadIdx.x / 32 * kOwnRows, left = item.num_keys - (item.first + turn.tile) * KEYS - first;
    const int boxes = (max(min(left, kOwnRows), 0) + Task::kCodeBox - 1) / Task::kCodeBox;
    if (threadIdx.x % 32 == 0) barrier_expect(full, boxes * Task::kCodeBox * (kRowBytes + kScaleBytes));
    __syncwarp();
    if (box >= 0) task.copy_codes(to, turn.of_values, first + threadIdx.x % 32 * Task::kCodeBox, box, full);
}

// Let the item's queries come, and the first of its codes; returns how many tiles of them it has.
template <class Task>
DEVICE int open_item(const Task& task, Layout& shared, int turn, RingOf<CODE_STAGES> codes) {
    const Item item = task.find(take_item(task, shared, turn));
    const int slot = turn % QUERIES, count = item.end > 0 ? 2 * (item.end - item.first) : 0;
#pragma unroll 1
    for (int i = 0; i < CODE_STAGES; i++, codes.advance())
        fetch_codes(task, item, i, count, find_box(task, item, i, count), shared.codes[codes.stage],
                    shared.codes_full[codes.stage][threadIdx.x / 32]);
    barrier_wait(shared.query_empty[slot], turn / QUERIES % 2 ^ 1);
    if (count)
        copy_rows<kRows, 32 * kDecoders>(shared.query[slot][0], kRows * 128, threadIdx.x,
                                         [&](int row) { return task.query(item, row); });
    if (threadIdx.x == 0) shared.items[slot] = item;
    copies_commit();
    meet_named(kProducerName, 32 * kDecoders);
    return count;
}

// Each warp has its rows of every tile to itself, from the copy engine to the numbers.
template <class Task>
DEVICE void produce_from_codes(const Task& task, Layout& shared) {
    const int warp = threadIdx.x / 32;
    int before = 0;  // keys that earlier items had decoded, and values
    RingOf<CODE_STAGES> codes;
#pragma unroll 1
    for (int turn = 0;; turn++) {
        const int slot = turn % QUERIES, count = open_item(task, shared, turn, codes);
        const Item& item = shared.items[slot];
        const int num_keys = item.num_keys - item.first * KEYS;
        int box = find_box(task, item, CODE_STAGES, count);
#pragma unroll 1
        for (int i = 0; i < max(count, 1); i++) {
            if (count) {
                const Turn now(i, count);
                const int place = before + now.tile, stage = place % STAGES;
                barrier_wait(shared.codes_full[codes.stage][warp], codes.parity);
                barrier_wait((now.of_values ? shared.values_empty : shared.keys_empty)[stage], place / STAGES % 2 ^ 1);
                decode_rows(shared.codes[codes.stage], (now.of_values ? shared.values : shared.keys)[stage], num_keys - now.tile * KEYS);
                publish_shared();
                __syncwarp();
                if (threadIdx.x % 32 == 0) barrier_arrive((now.of_values ? shared.values_full : shared.keys_full)[stage]);
                const int next = i + CODE_STAGES;
                fetch_codes(task, item, next, count, box, shared.codes[codes.stage], shared.codes_full[codes.stage][warp]);
                box = find_box(task, item, next + 1, count);  // on its way while the next tile is decoded
                codes.advance();
            }
            if (i == 0) {
                copies_wait<0>();
                publish_shared();
                barrier_arrive(shared.query_full[slot]);
            }
        }
        if (item.end <= 0) return;
        before += count / 2;
    }
}
