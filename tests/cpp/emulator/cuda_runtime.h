// A GPU for tests: kernels compiled as C++ run here thread by thread, so that a machine without a
// GPU can check their results, and a sanitizer their accesses. Every CUDA thread is a fiber; blocks
// run one after another, and a fiber runs until it meets a barrier or a shuffle. A barrier that not
// all of its threads reach ends the program, and so does a shuffle.
#pragma once

#include <ucontext.h>

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

struct Barrier {
  int expected = 0, arrived = 0, generation = 0;
};
struct Warp {
  Barrier barrier;
  uint64_t value[32];
};
struct Thread {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  bool done = false;
};

constexpr size_t kStack = 1 << 16;
inline ucontext_t scheduler;
inline std::vector<Thread> threads;
inline std::vector<Warp> warps;
inline Barrier block;
inline std::function<void()> kernel;
inline size_t current;
inline bool progress;

inline void run_current() {
  kernel();
  threads[current].done = progress = true;
}

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

inline void run_block() {
  for (Thread& thread : threads) {
    thread.done = false;
    getcontext(&thread.context);
    thread.context.uc_stack = {thread.stack.get(), 0, kStack};
    thread.context.uc_link = &scheduler;
    makecontext(&thread.context, run_current, 0);
  }
  for (bool alive = true; alive;) {
    alive = progress = false;
    for (current = 0; current < threads.size(); ++current) {
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
  threads.clear();
  threads.resize(blockDim.x);
  for (Thread& thread : threads) thread.stack = std::make_unique<char[]>(kStack);
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

// Values of up to eight bytes; all 32 lanes take part.
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  emulator::Warp& warp = emulator::warps[threadIdx.x / 32];
  const unsigned lane = threadIdx.x % 32;
  std::memcpy(&warp.value[lane], &value, sizeof(T));
  emulator::wait(warp.barrier);
  std::memcpy(&value, &warp.value[lane ^ static_cast<unsigned>(mask)], sizeof(T));
  emulator::wait(warp.barrier);
  return value;
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments... arguments) {
  emulator::kernel = [=] { kernel(arguments...); };
  emulator::run_grid(*config);
  return cudaSuccess;
}
