/* narrow_products.cuh - the functions of `kernels/device/narrow_products.cuh` in plain C++, for `cuda_on_cpu.h`. */
#pragma once
#include "device/cluster.cuh"
#include "device/codes.cuh"
#include "device/hopper.cuh"
#include "device/vector.cuh"

// The 32 bytes of a row that a product takes, as elements of T.
template <class T>
std::vector<float> operand_row(Operand from, int row) {
    const unsigned start = unsigned(from & 0x3fff) << 4, stride = unsigned(from >> 32 & 0x3fff) << 4;
    require(from >> 62 == 1 && (from >> 49 & 7) == 0 && (start & 0x380) == 0, "an operand has the 128-byte swizzle, base 0");
    std::vector<float> elements;
    for (unsigned k = 0; k < 32 / sizeof(T); k++) {
        T element;
        const unsigned address = start + row / 8 * stride + row % 8 * 128 + k * sizeof(T);
        memcpy(&element, on_cpu::shared_at(swizzled_address(address)), sizeof(T));
        elements.push_back(to_float(element));
    }
    return elements;
}
template <class T, int N>
std::vector<std::vector<float>> operand_rows(Operand from) {
    std::vector<std::vector<float>> rows;
    for (int row = 0; row < N; row++) rows.push_back(operand_row<T>(from, row));
    return rows;
}

inline int& as_number(unsigned& x) { return reinterpret_cast<int&>(x); }
inline float& as_number(float& x) { return x; }

// Products are carried out when they are waited for: an accumulator that is read earlier holds what it held.
template <class T, int N, class D, class A>
void multiply_later(D (&d)[N / 2], A a_row, Operand b, bool add) {
    D* at = d;
    const bool watch = threadIdx.x % 128 == 0;
    const auto before = watch ? operand_rows<T, N>(b) : std::vector<std::vector<float>>{};
    const int lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
    on_cpu::fibers[on_cpu::current].products.back().push_back([=] {
        const auto columns = operand_rows<T, N>(b);
        if (watch)
            for (int row = 0; row < N; row++)
                require(memcmp(columns[row].data(), before[row].data(), 4 * before[row].size()) == 0,
                        "an operand in shared memory changed under a product");
        const std::vector<float> rows[2] = {a_row(g), a_row(g + 8)};
        for (int i = 0; i < N / 2; i++) {
            const auto& column = columns[i / 4 * 8 + 2 * c + i % 2];
            auto sum = add ? as_number(at[i]) : decltype(as_number(at[i]) + 0)(0);
            for (size_t k = 0; k < column.size(); k++) sum += rows[i / 2 % 2][k] * column[k];
            as_number(at[i]) = sum;
        }
    });
}

template <class T, int N>
void multiply_narrow(float (&d)[N / 2], Operand a, Operand b, bool add) {
    const int first = threadIdx.x % 128 / 32 * 16;
    multiply_later<T, N>(d, [=](int row) { return operand_row<T>(a, first + row); }, b, add);
}
template <class T, int N>
void multiply_narrow(unsigned (&d)[N / 2], Operand a, Operand b, bool add) {
    const int first = threadIdx.x % 128 / 32 * 16;
    multiply_later<T, N>(d, [=](int row) { return operand_row<T>(a, first + row); }, b, add);
}

template <class T, int N>
void multiply_from_registers(float (&d)[N / 2], const unsigned (&a)[4], Operand b, bool add) {
    constexpr int kInputs = 32 / sizeof(T), kOfWord = 4 / sizeof(T);
    const uint64_t words[2] = {a[0] | uint64_t(a[1]) << 32, a[2] | uint64_t(a[3]) << 32};
    std::vector<std::vector<float>> mine(16, std::vector<float>(kInputs));  // rows g and g + 8 count
    const int g = threadIdx.x % 32 / 4;
    on_cpu::exchange(words, 2, [&](auto read) {
        for (int half = 0; half < 2; half++)
            for (int k = 0; k < kInputs; k++) {
                const uint64_t word = read(4 * g + k % (kInputs / 2) / kOfWord, k / (kInputs / 2)) >> (32 * half);
                T element;
                memcpy(&element, reinterpret_cast<const char*>(&word) + k % kOfWord * sizeof(T), sizeof(T));
                mine[g + 8 * half][k] = to_float(element);
            }
        return 0;
    });
    const unsigned* registers = a;
    const unsigned first = a[0], last = a[3];
    multiply_later<T, N>(
        d,
        [=](int row) {
            require(registers[0] == first && registers[3] == last, "an operand in registers changed under a product");
            return mine[row];
        },
        b, add);
}

inline void prefetch_map(const TensorMap&) {}

struct CachePolicy {};
inline CachePolicy read_once() { return {}; }
inline void copy_box(void* to, const TensorMap& map, int x, int y, Barrier& barrier, CachePolicy) {
    copy_box(to, map, x, y, barrier);
}
inline void copy_box(void* to, const TensorMap& map, int x, int y, int z, int w, Barrier& barrier, CachePolicy) {
    copy_box(to, map, x, y, z, w, barrier);
}

inline void copy_bytes(void* to, const void* from, int bytes, Barrier& barrier, CachePolicy) { copy_bytes(to, from, bytes, barrier); }
