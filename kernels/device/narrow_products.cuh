/* narrow_products.cuh - products of a warpgroup with few columns, with 8-bit operands and with A from registers.

   Third part of `ptx.cuh`, after `hopper.cuh`, whose operands these are. Rows of 128 bytes hold 64 elements of 16 bits or 128 of
   8 bits; `+ 2` moves an operand on by 16 or 32 elements. Its twin stands in `tests/support/cuda_on_cpu/device/`.
*/
#pragma once
#include "device/cluster.cuh"
#include "device/codes.cuh"
#include "device/hopper.cuh"

/* ---- d [64, N] = a * b [N, k]^T, plus d where `add`; asynchronous ---- */

// Both operands by rows of shared memory. T = bf16, fp16: k = 16; e4m3: k = 32.
template <class T, int N>
DEVICE void multiply_narrow(float (&d)[N / 2], Operand a, Operand b, bool add);

// T = int8: k = 32, exact.
template <class T, int N>
DEVICE void multiply_narrow(unsigned (&d)[N / 2], Operand a, Operand b, bool add);

// a [64, 16] from registers, as the first operand of mma m16n8k16 in each warp; e4m3: [64, 32], of m16n8k32.
template <class T, int N>
DEVICE void multiply_from_registers(float (&d)[N / 2], const unsigned (&a)[4], Operand b, bool add);

#define REGISTERS4 "%0,%1,%2,%3"
#define REGISTERS8 REGISTERS4 ",%4,%5,%6,%7"
#define REGISTERS16 REGISTERS8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define REGISTERS32 REGISTERS16 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define REGISTERS64                                                                                                              \
    REGISTERS32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59," \
        "%60,%61,%62,%63"
#define REGISTERS96                                                                                                              \
    REGISTERS64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91," \
        "%92,%93,%94,%95"
#define REGISTERS128                                                                                                                  \
    REGISTERS64 ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,"   \
        "%92,%93,%94,%95,%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,"   \
        "%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"

#define OPERANDS4(k, i) k(d[i]), k(d[i + 1]), k(d[i + 2]), k(d[i + 3])
#define OPERANDS8(k, i) OPERANDS4(k, i), OPERANDS4(k, i + 4)
#define OPERANDS16(k, i) OPERANDS8(k, i), OPERANDS8(k, i + 8)
#define OPERANDS32(k, i) OPERANDS16(k, i), OPERANDS16(k, i + 16)
#define OPERANDS64(k, i) OPERANDS32(k, i), OPERANDS32(k, i + 32)
#define OPERANDS96(k, i) OPERANDS64(k, i), OPERANDS32(k, i + 64)
#define OPERANDS128(k, i) OPERANDS64(k, i), OPERANDS64(k, i + 64)
#define FLOATS "+f"
#define INTS "+r"

#define BY_ROWS(T, D, KIND, SHAPE, TAIL, N, COUNT, I0, I1, I2)                                                               \
    template <>                                                                                                               \
    DEVICE void multiply_narrow<T, N>(D (&d)[N / 2], Operand a, Operand b, bool add) {                                        \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " I2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N SHAPE " {" REGISTERS##COUNT  \
                     "}, " I0 ", " I1 ", p" TAIL ";\n}"                                                                       \
                     : OPERANDS##COUNT(KIND, 0)                                                                                      \
                     : "l"(a), "l"(b), "r"(int(add)));                                                                        \
    }
#define FROM_REGISTERS(T, SHAPE, TAIL, N, COUNT, I0, I1, I2, I3, I4, I5)                                                    \
    template <>                                                                                                               \
    DEVICE void multiply_from_registers<T, N>(float (&d)[N / 2], const unsigned (&a)[4], Operand b, bool add) {               \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " I5 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N SHAPE                     \
                     " {" REGISTERS##COUNT "}, {" I0 ", " I1 ", " I2 ", " I3 "}, " I4 ", p" TAIL ";\n}"                              \
                     : OPERANDS##COUNT(FLOATS, 0)                                                                                    \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(add)));                                    \
    }
#define NARROW(N, COUNT, I0, I1, I2, I3, I4, I5)                                               \
    BY_ROWS(bf16, float, FLOATS, "k16.f32.bf16.bf16", ", 1, 1, 0, 0", N, COUNT, I0, I1, I2)    \
    BY_ROWS(fp16, float, FLOATS, "k16.f32.f16.f16", ", 1, 1, 0, 0", N, COUNT, I0, I1, I2)      \
    BY_ROWS(e4m3, float, FLOATS, "k32.f32.e4m3.e4m3", ", 1, 1", N, COUNT, I0, I1, I2)          \
    BY_ROWS(int8, unsigned, INTS, "k32.s32.s8.s8", "", N, COUNT, I0, I1, I2)                        \
    FROM_REGISTERS(bf16, "k16.f32.bf16.bf16", ", 1, 1, 0", N, COUNT, I0, I1, I2, I3, I4, I5)   \
    FROM_REGISTERS(fp16, "k16.f32.f16.f16", ", 1, 1, 0", N, COUNT, I0, I1, I2, I3, I4, I5)     \
    FROM_REGISTERS(e4m3, "k32.f32.e4m3.e4m3", ", 1, 1", N, COUNT, I0, I1, I2, I3, I4, I5)

NARROW(8, 4, "%4", "%5", "%6", "%7", "%8", "%9")
NARROW(16, 8, "%8", "%9", "%10", "%11", "%12", "%13")
NARROW(32, 16, "%16", "%17", "%18", "%19", "%20", "%21")
NARROW(64, 32, "%32", "%33", "%34", "%35", "%36", "%37")
NARROW(128, 64, "%64", "%65", "%66", "%67", "%68", "%69")
NARROW(192, 96, "%96", "%97", "%98", "%99", "%100", "%101")
NARROW(256, 128, "%128", "%129", "%130", "%131", "%132", "%133")

// How long the L2 keeps what a copy brings.
struct CachePolicy {
    unsigned long long bits;
};

// Of bytes that are read once: the first to go.
DEVICE CachePolicy read_once() {
    CachePolicy policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy.bits));
    return policy;
}

// As `copy_box`, with a policy.
DEVICE void copy_box(void* to, const TensorMap& map, int x, int y, Barrier& barrier, CachePolicy policy) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(
            shared_address(to)),
        "l"(&map), "r"(shared_address(&barrier)), "r"(x), "r"(y), "l"(policy.bits)
        : "memory");
}
DEVICE void copy_box(void* to, const TensorMap& map, int x, int y, int z, int w, Barrier& barrier, CachePolicy policy) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::
            "r"(shared_address(to)),
        "l"(&map), "r"(shared_address(&barrier)), "r"(x), "r"(y), "r"(z), "r"(w), "l"(policy.bits)
        : "memory");
}

// As `copy_bytes`, with a policy.
DEVICE void copy_bytes(void* to, const void* from, int bytes, Barrier& barrier, CachePolicy policy) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(&barrier)), "l"(policy.bits)
                 : "memory");
}

// Before the first copy: what the map says is fetched early.
DEVICE void prefetch_map(const TensorMap& map) { asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory"); }
