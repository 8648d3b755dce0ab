/* tile_stages.cuh - the ring of weights on `two_rings.cuh` whose tiles of 16 outputs lie in one piece, so that a group's slab is one copy.

   A kernel says before it includes this how many bytes a tile has, `kTileBytes`. Its `Layout` has `codes[CODE_STAGES][kCodeBytes]` with
   barriers `codes_full` and `codes_empty`.
*/
#pragma once
#include "device/two_rings.cuh"

constexpr int kCodeBytes = 4 * kTileBytes;            // of a group's slab
// Copies land in any order. Who waits for a stage has to be who read it before, or takes the phase before for the one that it waits for.
static_assert(CODE_STAGES % kWarpgroups == 0, "a stage is one warpgroup's");

// One lane: the tiles of the block, group by group of each slab.
template <class Layout>
DEVICE void copy_codes(Layout& shared, const unsigned char* tiles, Share share, Tile tile, int num_outputs) {
    const CachePolicy policy = read_once();
    const int slab_tiles = num_outputs / 16 * (1 + GATED), block_tiles = min(kWidth, num_outputs - tile.first_output) / 16;
    const unsigned char* slab_start = tiles + ((long long)share.first * slab_tiles + tile.first_output / 16) * kTileBytes;
    Place<CODE_STAGES, 1> at(0);
    int free_stages = CODE_STAGES;
    for (int slab = share.first; slab < share.end; slab++, slab_start += (long long)slab_tiles * kTileBytes) {
#pragma unroll
        for (int group = 0; group < GROUPS; group++, at.next()) {
            constexpr int kHalf = GROUPS / (1 + GATED);  // GATED: groups of gates
            const int first = group % kHalf * 4, bytes = min(4, max(0, block_tiles - first)) * kTileBytes;
            if (free_stages-- <= 0) barrier_wait(shared.codes_empty[at.stage], at.parity ^ 1);
            barrier_expect(shared.codes_full[at.stage], bytes);
            const unsigned char* from = slab_start + (first + (group >= kHalf ? slab_tiles / 2 : 0)) * kTileBytes;
            if (bytes > 0) copy_bytes(shared.codes[at.stage], from, bytes, shared.codes_full[at.stage], policy);
        }
    }
}
