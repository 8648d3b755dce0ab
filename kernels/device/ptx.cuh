/* ptx.cuh - the instructions that C++ has no name for, one function each.

   All inline assembly of the project stands here and in `hopper.cuh`. `tests/support/cuda_on_cpu/device/` has the same functions
   in plain C++, lane by lane, so that every kernel also runs on a CPU.

   Fragments of mma m16n8k16, lane = 4 * g + c:
     A [16, 16]   a0 = (g, 2c..)  a1 = (g + 8, 2c..)  a2 = (g, 2c + 8..)  a3 = (g + 8, 2c + 8..)
     B [16, 8]    b0 = (2c.., g)  b1 = (2c + 8.., g)          two 16-bit elements a register, the lower index in the lower half
     C [16, 8]    c0, c1 = (g, 2c), (g, 2c + 1)   c2, c3 = (g + 8, 2c), (g + 8, 2c + 1)
*/
#pragma once

#define DEVICE __device__ __forceinline__

struct bf16 {
    unsigned short bits;
};
struct fp16 {
    unsigned short bits;
};
using fp32 = float;

/* ---- numbers ---- */

DEVICE float to_float(bf16 x) { return __uint_as_float(unsigned(x.bits) << 16); }

DEVICE float to_float(fp16 x) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
    return wide;
}

DEVICE float to_float(fp32 x) { return x; }

template <class T>
DEVICE unsigned pack2(float low, float high);

template <>
DEVICE unsigned pack2<bf16>(float low, float high) {
#if __CUDA_ARCH__ >= 800
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else  // round to nearest even by hand; NaN stays NaN
    unsigned l = __float_as_uint(low), h = __float_as_uint(high);
    l = low == low ? l + 0x7fff + ((l >> 16) & 1) : 0x7fff0000u;
    h = high == high ? h + 0x7fff + ((h >> 16) & 1) : 0x7fff0000u;
    return (l >> 16) | (h & 0xffff0000u);
#endif
}

template <>
DEVICE unsigned pack2<fp16>(float low, float high) {
    unsigned short l, h;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(l) : "f"(low));
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(high));
    return unsigned(l) | (unsigned(h) << 16);
}

// A pair of bf16 times a pair of powers of two: exact, subnormal numbers and signs of zeros too.
DEVICE unsigned scale2(unsigned pair, unsigned powers) {
#if __CUDA_ARCH__ >= 800
    unsigned product;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(product) : "r"(pair), "r"(powers), "r"(0x80008000u));
    return product;
#else
    const float low = __uint_as_float(pair << 16) * __uint_as_float(powers << 16);
    return pack2<bf16>(low, __uint_as_float(pair & 0xffff0000u) * __uint_as_float(powers & 0xffff0000u));
#endif
}

// The same number, of which the compiler knows nothing: what is computed from it is not kept in registers across a loop.
DEVICE int hidden(int x) {
    asm volatile("" : "+r"(x));
    return x;
}

// Waits and barriers that follow stay behind the computation of x, which is not negative.
DEVICE void after(float x) {
    if (x < 0.f) asm volatile("trap;");
}

// The block's dynamic shared memory under a name.
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

DEVICE float exp2_fast(float x) {  // 2^x, 2 ulp; -inf gives 0
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

DEVICE float reciprocal_fast(float x) {  // 1 / x, 1 ulp; of an infinite x 0
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* ---- global to shared, asynchronous from sm_80 on ---- */

DEVICE unsigned shared_address(const void* pointer) { return unsigned(__cvta_generic_to_shared(pointer)); }

// Copy 16 bytes, or write 16 zero bytes where `valid` is false (`from` is not read then).
DEVICE void copy16_async(void* to, const void* from, bool valid) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(valid ? 16 : 0)
                 : "memory");
#else
    *(uint4*)to = valid ? *(const uint4*)from : make_uint4(0, 0, 0, 0);
#endif
}

DEVICE void copies_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Wait until at most PENDING of this thread's committed groups are still under way.
template <int PENDING>
DEVICE void copies_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#endif
}

/* ---- launches that overlap: a kernel may start while the one before it still runs ---- */

// From here on the next kernel's blocks may take free places on the GPU.
DEVICE void dependents_may_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Wait until the kernel before this one is complete and its results can be seen. Every kernel calls it before it touches
// anything but weights.
DEVICE void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/* ---- words that other GPUs see ---- */

// All that the block has written before its last barrier is seen by whoever sees the word.
DEVICE void store_release(unsigned* to, unsigned word) {
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(to), "r"(word) : "memory");
}

DEVICE unsigned load_acquire(const unsigned* from) {
    unsigned word;
    asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(word) : "l"(from) : "memory");
    return word;
}

// Two words of 8 bytes; each of them arrives whole, in no order.
DEVICE void store_words(void* to, unsigned long long first, unsigned long long second) {
    asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(first), "l"(second) : "memory");
}

DEVICE void load_words(const void* from, unsigned long long& first, unsigned long long& second) {
    asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];" : "=l"(first), "=l"(second) : "l"(from) : "memory");
}

/* ---- matrices ---- */

// Four 8 x 8 matrices of 16-bit elements; lanes 8i..8i+7 give the row addresses of matrix i.
DEVICE void load_matrix4(unsigned (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

DEVICE void load_matrix4_transposed(unsigned (&r)[4], const void* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// Transpose an 8 x 8 matrix of 16-bit elements that is spread over the warp.
DEVICE unsigned transpose8(unsigned x) {
    unsigned y;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}

// c += a * b, accumulated in fp32.
template <class T>
DEVICE void mma16816(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1);

template <>
DEVICE void mma16816<fp16>(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else  // Turing multiplies eight columns at a time
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b0));
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

#if __CUDA_ARCH__ >= 800
template <>
DEVICE void mma16816<bf16>(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif
