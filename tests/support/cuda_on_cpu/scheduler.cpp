/* scheduler.cpp - what runs the fibers of cuda_on_cpu.h; compiled once, for all kernels. */
#include "cuda_on_cpu.h"

Index3 threadIdx, blockIdx, blockDim, gridDim;

namespace on_cpu {

std::vector<Fiber> fibers;
int current, block_fibers;
Barrier cluster_barrier;
std::vector<Barrier> block_barriers, warp_barriers;
std::vector<uint64_t> mailbox;
std::vector<std::vector<unsigned char>> shared;
NamedBarriers named_barriers;
Deliveries deliveries;

namespace {

constexpr size_t kStackBytes = 256 * 1024;
ucontext_t scheduler;
jmp_buf scheduler_place;
std::vector<std::unique_ptr<char[]>> stacks;  // outlive their fibers: fresh memory costs more than most kernels
std::function<void()> body;

// NOTE: swapcontext asks the kernel for the signal mask each time, which takes longer than what fibers do between two
// switches. It only starts a fiber here; jumps between the stacks do the rest.
void give_way() {
    if (_setjmp(fibers[current].place) == 0) _longjmp(scheduler_place, 1);
}

void go_on(Fiber& fiber) {
    if (_setjmp(scheduler_place) != 0) return;
    if (fiber.begun) _longjmp(fiber.place, 1);
    fiber.begun = true;
    swapcontext(&scheduler, &fiber.context);
}

void run_fiber() {
    body();
    fibers[current].done = true;
    give_way();
}

// Run the blocks of a cluster from block (x, y) on.
void run_cluster(int x, int y, int num_blocks, int threads, size_t shared_bytes) {
    block_fibers = (threads + 127) / 128 * 128;
    fibers = std::vector<Fiber>(num_blocks * block_fibers);
    cluster_barrier = {num_blocks * threads, 0, 0};
    block_barriers.assign(num_blocks, Barrier{threads, 0, 0});
    warp_barriers.assign(fibers.size() / 32, Barrier{});
    mailbox.assign(fibers.size() * 4, 0);
    named_barriers.all.assign(16 * num_blocks, Barrier{});
    deliveries.waiting.clear();
    shared.assign(num_blocks, std::vector<unsigned char>(shared_bytes + 1024, 0xff));
    while (stacks.size() < fibers.size()) stacks.emplace_back(new char[kStackBytes]);
    for (size_t t = 0; t < fibers.size(); t++) {
        Fiber& fiber = fibers[t];
        fiber.done = int(t) % block_fibers >= threads;
        if (fiber.done) continue;
        warp_barriers[t / 32].size++;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = stacks[t].get();
        fiber.context.uc_stack.ss_size = kStackBytes;
        makecontext(&fiber.context, run_fiber, 0);
    }
    for (bool moved = true; moved;) {
        moved = false;
        for (int t = 0; t < int(fibers.size()); t++) {
            Fiber& fiber = fibers[t];
            if (fiber.done || (fiber.waits_for && fiber.waits_for->generation == fiber.waits_past)) continue;
            if (fiber.goes_on && !fiber.goes_on()) continue;
            fiber.waits_for = nullptr;
            fiber.goes_on = nullptr;
            moved = true;
            current = t;
            threadIdx = {t % block_fibers, 0, 0};
            blockIdx = {x + current_block(), y, 0};
            go_on(fiber);
        }
        if (!moved && !deliveries.waiting.empty()) {
            const auto delivery = std::move(deliveries.waiting.back());  // no order is promised
            deliveries.waiting.pop_back();
            current = delivery.first;
            delivery.second();
            moved = true;
        }
    }
    for (auto& fiber : fibers)
        if (!fiber.done) {
            fprintf(stderr, "a barrier was not reached by all of its threads (block %d, %d)\n", blockIdx.x, blockIdx.y);
            abort();
        }
}

}  // namespace

void Deliveries::push_back(std::function<void()> delivery) { waiting.emplace_back(current, std::move(delivery)); }

void meet(Barrier& barrier) {
    const long generation = barrier.generation;
    if (!arrive(barrier)) wait_past(barrier, generation);
}

void wait_past(Barrier& barrier, long generation) {
    if (barrier.generation != generation) return;
    fibers[current].waits_for = &barrier;
    fibers[current].waits_past = generation;
    give_way();
}

void wait_until(std::function<bool()> condition) {
    if (condition()) return;
    fibers[current].goes_on = std::move(condition);
    give_way();
}

void run_grid(std::function<void()> of_a_thread, int grid_x, int grid_y, int cluster, int threads, size_t shared_bytes) {
    body = std::move(of_a_thread);
    gridDim = {grid_x, grid_y, 1};
    blockDim = {threads, 1, 1};
    for (int y = 0; y < grid_y; y++)
        for (int x = 0; x < grid_x; x += cluster) run_cluster(x, y, cluster, threads, shared_bytes);
}

}  // namespace on_cpu
