/* hopper.cuh - what only sm_90a has: tensor copies, barriers that count bytes, products of a warpgroup, registers on loan.

   Second part of `ptx.cuh`, with a twin beside it in `tests/support/cuda_on_cpu/device/`.

   Operands in shared memory are column blocks of 64 16-bit elements: rows of 128 bytes, the 16-byte pieces of a row exchanged
   by the 128-byte swizzle (piece p of row r lies at place p ^ (r % 8)), the block starting at a multiple of 1,024 bytes. A tile
   of more than 64 columns is several such blocks behind each other. Tensor copies write this layout, products read it.

   Accumulator of m64nNk16, thread 32 * w + 4 * g + c of the warpgroup: d[i] = (16 w + g + 8 * (i / 2 % 2), 8 * (i / 4) + 2 c + i % 2),
   which is C of mma m16n8k16 for each 8 columns; A from registers is A of m16n8k16.
*/
#pragma once
#include "device/ptx.cuh"

struct alignas(64) TensorMap {  // CUtensorMap: made by the driver, passed as a __grid_constant__ parameter
    unsigned long long words[16];
};

struct Barrier {  // an mbarrier, in shared memory
    unsigned long long state;
};

/* ---- barriers ---- */

DEVICE void barrier_init(Barrier& barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
}

// After the inits, before the block's barrier: the copy engine sees them too.
DEVICE void barriers_are_set() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

DEVICE void barrier_arrive(Barrier& barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
}

// Arrive, and let the phase also wait for `bytes` from the copy engine.
DEVICE void barrier_expect(Barrier& barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes) : "memory");
}

// Wait until the phase of this parity is over; of a new barrier, phase 1 counts as over.
DEVICE void barrier_wait(Barrier& barrier, int parity) {
    asm volatile(
        "{\n.reg .pred p;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra OVER;\nbra AGAIN;\nOVER:\n}" ::"r"(
            shared_address(&barrier)),
        "r"(parity)
        : "memory");
}

// Named barriers 1 to 15 of the block: `threads` threads meet, of which some may only pass by.
DEVICE void meet_named(int name, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(name), "r"(threads) : "memory"); }
DEVICE void pass_named(int name, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(name), "r"(threads) : "memory"); }

/* ---- copies and order ---- */

// What this thread wrote to shared memory is there for the copy engine and the tensor cores. Then a barrier, as ever.
DEVICE void publish_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Copy the map's box at (x, y) or (x, y, z, w), innermost first, to shared memory; zeros where it leaves the tensor.
DEVICE void copy_box(void* to, const TensorMap& map, int x, int y, Barrier& barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
            shared_address(to)),
        "l"(&map), "r"(shared_address(&barrier)), "r"(x), "r"(y)
        : "memory");
}
DEVICE void copy_box(void* to, const TensorMap& map, int x, int y, int z, int w, Barrier& barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(
            shared_address(to)),
        "l"(&map), "r"(shared_address(&barrier)), "r"(x), "r"(y), "r"(z), "r"(w)
        : "memory");
}

// Copy contiguous bytes, a multiple of 16 that starts at one, to shared memory.
DEVICE void copy_bytes(void* to, const void* from, int bytes, Barrier& barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(&barrier))
                 : "memory");
}

// Arrive once all `copy16_async` of this thread have landed; the thread goes on.
DEVICE void copies_arrive(Barrier& barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(&barrier)) : "memory");
}

/* ---- registers: a block starts with equal shares; the warpgroup that copies hands most of its share back ---- */

template <int COUNT>
DEVICE void keep_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
DEVICE void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

/* ---- products ---- */

using Operand = unsigned long long;  // a matrix descriptor; adding n moves it by 16 n bytes

constexpr Operand kSwizzle128 = 1ull << 62;
constexpr Operand kGroupStride = Operand(1024 >> 4) << 32;  // from 8 rows of 128 bytes to the next 8

// Rows of shared memory are rows of the matrix, 64 elements of the summed index each; move on by 16 of them with + 2.
DEVICE Operand rows_operand(const void* block) {
    return kSwizzle128 | kGroupStride | (Operand(1) << 16) | ((shared_address(block) & 0x3ffff) >> 4);
}

// Rows of shared memory run along the summed index, 16 of them with + 128; matrix rows 64.. lie `block_bytes` further.
DEVICE Operand columns_operand(const void* block, int block_bytes) {
    return kSwizzle128 | kGroupStride | (Operand(block_bytes >> 4) << 16) | ((shared_address(block) & 0x3ffff) >> 4);
}

// Before the first product, and after other instructions have touched registers of one.
DEVICE void products_open() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Wait until at most PENDING committed groups are under way; `settle` the accumulators then, or the compiler reads them early.
template <int PENDING>
DEVICE void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
template <int COUNT>
DEVICE void settle(float (&d)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(d[i])::"memory");
}
template <int COUNT>
DEVICE void settle(unsigned (&a)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) asm volatile("" : "+r"(a[i])::"memory");
}

// d [64, N] = a [64, 16] * b [N, 16]^T, plus d where `add`; both operands by rows, asynchronous.
template <class T, int N>
DEVICE void multiply_rows(float (&d)[N / 2], Operand a, Operand b, bool add);

// d [64, N] += a [64, 16] * b [16, N]; a from registers, b by columns, asynchronous.
template <class T, int N>
DEVICE void multiply_columns(float (&d)[N / 2], const unsigned (&a)[4], Operand b);

#define D8 "%0,%1,%2,%3,%4,%5,%6,%7"
#define D16 D8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define D24 D16 ",%16,%17,%18,%19,%20,%21,%22,%23"
#define D32 D24 ",%24,%25,%26,%27,%28,%29,%30,%31"
#define D40 D32 ",%32,%33,%34,%35,%36,%37,%38,%39"
#define D48 D40 ",%40,%41,%42,%43,%44,%45,%46,%47"
#define D56 D48 ",%48,%49,%50,%51,%52,%53,%54,%55"
#define D64 D56 ",%56,%57,%58,%59,%60,%61,%62,%63"
#define D72 D64 ",%64,%65,%66,%67,%68,%69,%70,%71"
#define D80 D72 ",%72,%73,%74,%75,%76,%77,%78,%79"
#define D88 D80 ",%80,%81,%82,%83,%84,%85,%86,%87"
#define D96 D88 ",%88,%89,%90,%91,%92,%93,%94,%95"
#define D104 D96 ",%96,%97,%98,%99,%100,%101,%102,%103"
#define D112 D104 ",%104,%105,%106,%107,%108,%109,%110,%111"
#define D120 D112 ",%112,%113,%114,%115,%116,%117,%118,%119"
#define D128 D120 ",%120,%121,%122,%123,%124,%125,%126,%127"

#define R4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define R8(i) R4(i), R4(i + 4)
#define R16(i) R8(i), R8(i + 8)
#define R32 R16(0), R16(16)
#define R40 R32, R8(32)
#define R48 R32, R16(32)
#define R56 R48, R8(48)
#define R64 R48, R16(48)
#define R72 R64, R8(64)
#define R80 R64, R16(64)
#define R88 R80, R8(80)
#define R96 R80, R16(80)
#define R104 R96, R8(96)
#define R128 R96, R16(96), R16(112)

#define PRODUCTS_OF(T, TYPE, N, COUNT, I0, I1, I2, I3, I4, I5)                                                                \
    template <>                                                                                                               \
    DEVICE void multiply_rows<T, N>(float (&d)[N / 2], Operand a, Operand b, bool add) {                                      \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " I2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE      \
                     "." TYPE " {" D##COUNT "}, " I0 ", " I1 ", p, 1, 1, 0, 0;\n}"                                            \
                     : R##COUNT                                                                                               \
                     : "l"(a), "l"(b), "r"(int(add)));                                                                        \
    }                                                                                                                         \
    template <>                                                                                                               \
    DEVICE void multiply_columns<T, N>(float (&d)[N / 2], const unsigned (&a)[4], Operand b) {                                \
        asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." TYPE "." TYPE " {" D##COUNT "}, {" I0 ", " I1 ", " I2 ", "\
                     I3 "}, " I4 ", 1, 1, 1, 1;"                                                                              \
                     : R##COUNT                                                                                               \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                                   \
    }
#define PRODUCTS(N, ...)                        \
    PRODUCTS_OF(bf16, "bf16", N, __VA_ARGS__)   \
    PRODUCTS_OF(fp16, "f16", N, __VA_ARGS__)

PRODUCTS(64, 32, "%32", "%33", "%34", "%35", "%36", "%37")
PRODUCTS(80, 40, "%40", "%41", "%42", "%43", "%44", "%45")
PRODUCTS(96, 48, "%48", "%49", "%50", "%51", "%52", "%53")
PRODUCTS(112, 56, "%56", "%57", "%58", "%59", "%60", "%61")
PRODUCTS(128, 64, "%64", "%65", "%66", "%67", "%68", "%69")
PRODUCTS(144, 72, "%72", "%73", "%74", "%75", "%76", "%77")
PRODUCTS(160, 80, "%80", "%81", "%82", "%83", "%84", "%85")
PRODUCTS(176, 88, "%88", "%89", "%90", "%91", "%92", "%93")
PRODUCTS(192, 96, "%96", "%97", "%98", "%99", "%100", "%101")
PRODUCTS(208, 104, "%104", "%105", "%106", "%107", "%108", "%109")
PRODUCTS(256, 128, "%128", "%129", "%130", "%131", "%132", "%133")
