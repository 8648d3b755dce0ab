/* tile_copies.cuh - the functions of `kernels/device/tile_copies.cuh` in plain C++, for `cuda_on_cpu.h`.

   A store reads shared memory as late as it may: when its group is waited for.
*/
#pragma once
#include "device/narrow_products.cuh"

// The same place in another block of the cluster: a pair, where all blocks of a grid run together.
template <class T>
T& peer_of(T& here, int rank) {
#ifdef RESIDENT
    rank += on_cpu::current_block() / 2 * 2;
#endif
    return *reinterpret_cast<T*>(on_cpu::shared_at(shared_address(&here), rank));
}

inline void copy_box_to_pair(void* to, const TensorMap& map, int x, int y, int z, int w, Barrier& barrier) {
    const int self = on_cpu::current;
    for (int rank = 0; rank < 2; rank++) {
        unsigned char& there = peer_of(*static_cast<unsigned char*>(to), rank);
        Barrier& counts = peer_of(barrier, rank);
        on_cpu::current = rank * on_cpu::block_fibers;  // as if that block had asked
        copy_box(&there, map, x, y, z, w, counts);
        on_cpu::current = self;
    }
}
inline void copy_box_to_pair(void* to, const TensorMap& map, int x, int y, Barrier& barrier) {
    copy_box_to_pair(to, map, x, y, 0, 0, barrier);
}
inline void send_to_peer(void* to, const float (&numbers)[4], int rank, Barrier& barrier) {
    const std::vector<float> x(numbers, numbers + 4);
    require(shared_address(to) % 16 == 0, "16 bytes are sent to a multiple of 16");
    unsigned char& there = peer_of(*static_cast<unsigned char*>(to), rank);
    Barrier& counts = peer_of(barrier, rank);
    memset(&there, 0xff, 16);
    on_cpu::deliveries.push_back([=, &there, &counts] {
        memcpy(&there, x.data(), 16);
        counts.bytes -= 16;
        barrier_turn(counts);
    });
}
inline void barrier_arrive_at(Barrier& barrier, int rank) { barrier_arrive(peer_of(barrier, rank)); }

inline void store_matrix4(void* row, const unsigned (&r)[4]) {
    const uint64_t address = uintptr_t(row);
    const int lane = on_cpu::current % 32;
    on_cpu::exchange(&address, 1, [&](auto read) {
        for (int i = 0; i < 4; i++) memcpy((char*)read(8 * i + lane / 4) + lane % 4 * 4, &r[i], 4);
        return 0;
    });
}

inline void store_transposed4(void* row, const unsigned (&r)[4]) {
    const uint64_t address = uintptr_t(row);
    const int lane = on_cpu::current % 32;
    on_cpu::exchange(&address, 1, [&](auto read) {
        for (int i = 0; i < 4; i++)
            for (int half = 0; half < 2; half++) {
                const unsigned short element = r[i] >> 16 * half;
                memcpy((char*)read(8 * i + lane % 4 * 2 + half) + lane / 4 * 2, &element, 2);
            }
        return 0;
    });
}

inline void store_box(const void* from, const TensorMap& map, int x, int y) {
    require(shared_address(from) % 128 == 0, "a box has to start at a multiple of 128 bytes");
    const TensorMap copied = map;
    const unsigned start = shared_address(from);
    on_cpu::fibers[on_cpu::current].stores.back().push_back([=] {
        for (unsigned r = 0; r < copied.box[1]; r++)
            for (unsigned c = 0; c < copied.box[0]; c++) {
                if (x + c >= copied.size[0] || y + r >= copied.size[1]) continue;
                char* there = (char*)copied.base + (x + c) * 2 + (y + r) * (long long)copied.stride_bytes[0];
                memcpy(there, on_cpu::shared_at(swizzled_address(start + (r * copied.box[0] + c) * 2)), 2);
            }
    });
}
inline void stores_commit() { on_cpu::fibers[on_cpu::current].stores.emplace_back(); }
template <int PENDING>
void stores_have_read() {
    auto& groups = on_cpu::fibers[on_cpu::current].stores;
    while (groups.size() > PENDING + 1) {
        for (auto& store : groups.front()) store();
        groups.erase(groups.begin());
    }
}
inline void stores_wait() { stores_have_read<0>(); }
