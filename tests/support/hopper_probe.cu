/* hopper_probe.cu - one use of each instruction of device/hopper.cuh, for tests that hold the emulator to the hardware.

   in       a, b [64, 128] SCALAR as tensors of the copy engine, boxes of 64 x 64
   out      scores [64, 64] = a b^T, sums [64, 128] = bf16(scores) b, fp32; swizzled [2, 64, 64]: b as it lies in shared memory
   launch   grid 1, block 128, shared 2 x 16 KB + 2 KB
*/
#include "device/hopper.cuh"

extern "C" __global__ __launch_bounds__(128) void hopper_probe(const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map,
                                                               float* scores, float* sums, SCALAR* swizzled) {
    DYNAMIC_SHARED(memory);
    unsigned char* a = memory + (1024 - shared_address(memory) % 1024) % 1024;
    unsigned char* b = a + 2 * 64 * 128;
    Barrier& full = *reinterpret_cast<Barrier*>(b + 2 * 64 * 128);
    if (threadIdx.x == 0) {
        barrier_init(full, 1);
        barriers_are_set();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        barrier_expect(full, 4 * 64 * 128);
        for (int block = 0; block < 2; block++) {
            copy_box(a + block * 64 * 128, a_map, block * 64, 0, full);
            copy_box(b + block * 64 * 128, b_map, block * 64, 0, full);
        }
    }
    barrier_wait(full, 0);
    __syncthreads();
    const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, c = threadIdx.x % 4;
    float score[32], sum[64];
    unsigned chance[4][4];
    products_open();
    for (int i = 0; i < 8; i++)
        multiply_rows<SCALAR, 64>(score, rows_operand(a) + i / 4 * (64 * 128 / 16) + i % 4 * 2,
                                  rows_operand(b) + i / 4 * (64 * 128 / 16) + i % 4 * 2, i > 0);
    products_commit();
    products_wait<0>();
    settle(score);
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) chance[i][j] = pack2<SCALAR>(score[8 * i + 2 * j], score[8 * i + 2 * j + 1]);
    for (int i = 0; i < 64; i++) sum[i] = 0.f;
    products_open();
    for (int i = 0; i < 4; i++) multiply_columns<SCALAR, 128>(sum, chance[i], columns_operand(b, 64 * 128) + i * 128);
    products_commit();
    products_wait<0>();
    settle(sum);
    for (int i = 0; i < 32; i++) scores[(16 * warp + g + i / 2 % 2 * 8) * 64 + i / 4 * 8 + 2 * c + i % 2] = score[i];
    for (int i = 0; i < 64; i++) sums[(16 * warp + g + i / 2 % 2 * 8) * 128 + i / 4 * 8 + 2 * c + i % 2] = sum[i];
    for (int i = threadIdx.x; i < 2 * 64 * 64; i += 128) swizzled[i] = reinterpret_cast<SCALAR*>(b)[i];
}
