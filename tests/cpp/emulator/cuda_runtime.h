// An emulated CUDA device for tests: csrc/kernels/cuda compiles against this header as C++ and runs
// on the CPU, so that tests can check results, and sanitizers can check accesses, without a GPU.
//
// Every CUDA thread is a fiber. Blocks run one after another. A fiber runs until it reaches a
// barrier or a shuffle; then the next one runs. Launches alternate between ascending and descending
// order of threads, so that a missing barrier gives a wrong result in one of them. The program ends
// if a barrier or a shuffle is not reached by all of its threads.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

constexpr size_t kStack = 1 << 16;

struct Barrier {
  int expected = 0, arrived = 0, generation = 0;
};
struct Warp {
  Barrier barrier;
  uint64_t value[2][32];  // of this exchange and of the next one, which a lane may reach early
};
struct Thread {
  ucontext_t context;
  std::unique_ptr<char[]> stack = std::make_unique_for_overwrite<char[]>(kStack);
  bool done = false;
};

inline ucontext_t scheduler;
inline std::vector<Thread> threads;  // at least those of the current block
inline std::vector<Warp> warps;
inline Barrier block;
inline std::function<void()> kernel;
inline size_t current;
inline bool progress;            // whether any fiber advanced in this round
inline bool descending = false;  // the order of threads in this launch

// The body of every fiber.
inline void run_current() {
  kernel();
  threads[current].done = progress = true;
}

// Suspends the current fiber until all threads of the barrier have arrived.
inline void wait(Barrier& barrier) {
  const int generation = barrier.generation;
  progress = true;
  if (++barrier.arrived == barrier.expected) {
    barrier.arrived = 0;
    ++barrier.generation;
  }
  while (barrier.generation == generation) {
    swapcontext(&threads[current].context, &scheduler);
  }
}

// Creates the fiber of a thread.
inline void start(Thread& thread) {
  thread.done = false;
  getcontext(&thread.context);
  thread.context.uc_stack = {thread.stack.get(), 0, kStack};
  thread.context.uc_link = &scheduler;
  makecontext(&thread.context, run_current, 0);
}

inline void run_block() {
  for (size_t i = 0; i < blockDim.x; ++i) start(threads[i]);
  for (bool alive = true; alive;) {
    alive = progress = false;
    for (size_t i = 0; i < blockDim.x; ++i) {
      current = descending ? blockDim.x - 1 - i : i;
      if (threads[current].done) continue;
      alive = true;
      threadIdx = dim3(static_cast<unsigned>(current), 0, 0);
      swapcontext(&scheduler, &threads[current].context);
    }
    if (alive && !progress) {
      std::fprintf(stderr, "block %u: some threads wait at a barrier for others\n", blockIdx.x);
      std::exit(1);
    }
  }
}

inline void run_grid(const cudaLaunchConfig_t& config) {
  blockDim = config.blockDim;
  gridDim = config.gridDim;
  descending = !descending;
  if (threads.size() < blockDim.x) threads.resize(blockDim.x);
  for (unsigned i = 0; i < gridDim.x; ++i) {
    blockIdx = dim3(i, 0, 0);
    warps.assign((blockDim.x + 31) / 32, {});
    for (Warp& warp : warps) warp.barrier.expected = 32;
    block = {static_cast<int>(blockDim.x)};
    run_block();
  }
}

}  // namespace emulator

inline void __syncthreads() { emulator::wait(emulator::block); }

// The base of all warp-wide functions: every lane passes a value of at most 8 bytes, waits for the
// other 31 lanes, and returns read(of), where of(lane) is the value of a lane.
template <class T, class Read>
auto exchange(T value, const Read& read) {
  emulator::Warp& warp = emulator::warps[threadIdx.x / 32];
  uint64_t(&slots)[32] = warp.value[warp.barrier.generation % 2];
  std::memcpy(&slots[threadIdx.x % 32], &value, sizeof(T));
  emulator::wait(warp.barrier);
  return read([&slots](unsigned lane) {
    T of;
    std::memcpy(&of, &slots[lane], sizeof(T));
    return of;
  });
}

template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  const unsigned lane = threadIdx.x % 32;
  return exchange(value, [=](auto of) { return of(lane ^ static_cast<unsigned>(mask)); });
}
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return exchange(value, [=](auto of) { return of(static_cast<unsigned>(lane)); });
}
inline unsigned __ballot_sync(unsigned, bool vote) {
  return exchange(vote, [](auto of) {
    unsigned votes = 0;
    for (unsigned i = 0; i < 32; ++i) votes |= unsigned{of(i)} << i;
    return votes;
  });
}
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments... arguments) {
  emulator::kernel = [=] { kernel(arguments...); };
  emulator::run_grid(*config);
  return cudaSuccess;
}
