/* cut_tiles.cu - one axis of a picture resized in 8 bits, the numbers of Pillow's Resample.c; the last axis as tiles.

   out[i] = clip8((2^21 + sum_k in[min(first[i] + k, LENGTH - 1)] * weight[k, i]) >> 22)     i along the axis, for each colour

   in       in [rows, columns, 4] bytes, contiguous; the fourth byte of a pixel is no colour
            first [N] int   weight [taps, N] int, 22 bits behind the point, 0 past a window
   out      TILES 0: out [rows, columns, 4] bytes, the fourth 0    TILES 1: out [tiles, side, side, 3], row by row of tiles
   -D       TILES = 0 | 1
   launch   grid (columns / 256, rows up to 65,535); block 256: a pixel each, next to each other in a row
   moves    `in` once from memory (a window's pixels come from caches), `out` once
   numbers  integers: equal to Pillow, whatever the order of the sum; at most 255 * 1.4 * 2^22 < 2^31
   entry    cut_axis
*/
#include "device/vector.cuh"

#ifndef TILES
#error "cut_tiles.cu needs -DTILES=0|1"
#endif

constexpr int kBits = 22;

DEVICE unsigned clip8(int sum) { return unsigned(min(max(sum >> kBits, 0), 255)); }

extern "C" __global__ __launch_bounds__(256) void cut_axis(
    const unsigned char* in, const int* first, const int* weight, unsigned char* out, int is_down, int length, int rows,
    int columns, int taps, int side) {
    dependents_may_start();
    wait_for_predecessor();
    const int x = blockIdx.x * 256 + threadIdx.x;
    if (x >= columns) return;
    const int num_new = is_down ? rows : columns;
    const long long step = is_down ? columns : 1;  // between the pixels of a window
    for (int y = blockIdx.y; y < rows; y += gridDim.y) {
        const int own = is_down ? y : x;
        const long long line = is_down ? x : (long long)y * length;
        int red = 1 << (kBits - 1), green = red, blue = red;
        for (int k = 0; k < taps; k++) {
            const int factor = weight[(long long)k * num_new + own];
            const unsigned pixel = load4(in + 4 * (line + min(first[own] + k, length - 1) * step));
            red += int(pixel & 255) * factor;
            green += int(pixel >> 8 & 255) * factor;
            blue += int(pixel >> 16 & 255) * factor;
        }
        const unsigned bytes[3] = {clip8(red), clip8(green), clip8(blue)};
        if constexpr (TILES) {
            const long long tile = (long long)(y / side) * (columns / side) + x / side;
            unsigned char* to = out + ((tile * side + y % side) * side + x % side) * 3;
            for (int colour = 0; colour < 3; colour++) to[colour] = (unsigned char)bytes[colour];
        } else {
            reinterpret_cast<unsigned*>(out)[(long long)y * columns + x] = bytes[0] | bytes[1] << 8 | bytes[2] << 16;
        }
    }
}
