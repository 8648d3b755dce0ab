/* patch_rows.cu - the rows that a vision tower's first product reads: patches of pictures, normalised.

   out[i, has_class + l, e] = numbers[c][pixels[i, y * PATCH + dy, x * PATCH + dx, c]]   e = (c * PATCH + dy) * PATCH + dx < 3 PATCH^2
                              1                                                          e = 3 PATCH^2
                              0                                                          above
   out[i, 0, e] = e == 3 PATCH^2 + 1, where there is a class token; patches l = y * COLUMNS + x come row by row

   in       pixels [num, rows * PATCH, COLUMNS * PATCH, 3] bytes, from a multiple of 4 on
            numbers [3, 256] SCALAR: what each byte of a colour means
   out      out [num, has_class + rows * COLUMNS, WIDTH] SCALAR
   -D       SCALAR = bf16 | fp16 | fp32; PATCH, even; COLUMNS of patches; WIDTH, a multiple of 16 bytes, above 3 * PATCH^2 + 1
   launch   grid (rows, num); block 1024; shared 3 * PATCH^2 * COLUMNS bytes
   moves    3 bytes a pixel; out once
   numbers  those of the table

   A block takes the patches beside each other: their lines lie in one piece. Colours stand a byte in three there, so they pass through
   shared memory.
*/
#include "device/vector.cuh"

#if !defined(SCALAR) || !defined(PATCH) || !defined(COLUMNS) || !defined(WIDTH)
#error "patch_rows.cu needs -DSCALAR=bf16|fp16|fp32 -DPATCH=<side of a patch> -DCOLUMNS=<patches beside each other> -DWIDTH=<row length>"
#endif

constexpr int kThreads = 1024;
constexpr int kN = kLanes<SCALAR>;
constexpr int kPixels = 3 * PATCH * PATCH;  // of a patch, in bytes
constexpr int kLine = 3 * PATCH * COLUMNS;    // of pixels beside each other, in bytes
constexpr int kPieces = WIDTH / kN;           // of 16 bytes in a row
static_assert(PATCH % 2 == 0 && WIDTH % kN == 0 && WIDTH >= kPixels + 2, "see the header");

// Where number e of a patch lies among the bytes of its lines.
DEVICE int byte_of(int e) {
    const int colour = e / (PATCH * PATCH), down = e / PATCH % PATCH, across = e % PATCH;
    return down * kLine + across * 3 + colour;
}

DEVICE void write_class_row(SCALAR* out) {
    for (int piece = threadIdx.x; piece < kPieces; piece += kThreads) {
        float row[kN];
#pragma unroll
        for (int j = 0; j < kN; j++) row[j] = piece * kN + j == kPixels + 1;
        store16(out + piece * kN, pack16<SCALAR>(row));
    }
}

extern "C" __global__ __launch_bounds__(kThreads) void patch_rows(
    const unsigned char* pixels, const SCALAR* numbers, SCALAR* out, int has_class) {
    DYNAMIC_SHARED(bytes);
    __shared__ SCALAR meaning[3 * 256];
    const long long first = ((long long)blockIdx.y * gridDim.x + blockIdx.x) * COLUMNS;  // patch of this block
    dependents_may_start();
    for (int i = threadIdx.x; i < 3 * 256; i += kThreads) meaning[i] = numbers[i];
    wait_for_predecessor();
    for (int at = threadIdx.x * 4; at < PATCH * kLine; at += kThreads * 4)
        *reinterpret_cast<unsigned*>(bytes + at) = load4(pixels + first * kPixels + at);
    __syncthreads();
    out += (first + (long long)has_class * (blockIdx.y + 1)) * WIDTH;
    for (int piece = threadIdx.x; piece < COLUMNS * kPieces; piece += kThreads) {
        const int start = piece % kPieces * kN;
        const unsigned char* patch = bytes + piece / kPieces * (PATCH * 3);
        float row[kN];
#pragma unroll
        for (int j = 0; j < kN; j++) {
            const int e = min(start + j, kPixels - 1);  // no branch: all of a piece are looked up together
            row[j] = to_float(meaning[e / (PATCH * PATCH) * 256 + patch[byte_of(e)]]);
        }
        if (start + kN > kPixels) {
#pragma unroll
            for (int j = 0; j < kN; j++)
                if (start + j >= kPixels) row[j] = start + j == kPixels;
        }
        store16(out + (long long)piece * kN, pack16<SCALAR>(row));
    }
    if (has_class && blockIdx.x == 0) write_class_row(out - WIDTH);
}
