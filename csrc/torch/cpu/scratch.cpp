// The pool of blocks of scratch.h.
#include "scratch.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <mutex>

namespace sparsetrain {
namespace {

// The pool keeps as many blocks as passes that run at once, say the backward pass of one model and
// the forward pass of another. Larger blocks are freed.
constexpr size_t kPoolBlocks = 2;
constexpr int64_t kPoolBytes = int64_t{256} << 20;

struct Pool {
  std::mutex mutex;
  at::Tensor blocks[kPoolBlocks];
};

// Never destroyed: a thread may still run when static objects are destroyed.
Pool& pool() {
  static Pool* const instance = new Pool;
  return *instance;
}

}  // namespace

int64_t Scratch::add_per_thread(int64_t count) {
  per_thread_ = (count + kLine - 1) / kLine * kLine;
  return add<char>(per_thread_ * at::get_num_threads());
}

void* Scratch::mine(int64_t begin) const {
  return at<char>(begin + per_thread_ * at::get_thread_num());
}

void Scratch::allocate() {
  {
    const std::lock_guard<std::mutex> lock(pool().mutex);
    for (at::Tensor& block : pool().blocks) {
      if (block.defined() && block.numel() >= bytes_) {
        memory_ = std::move(block);
        block.reset();
        return;
      }
    }
  }
  memory_ = at::empty({bytes_}, at::kByte);
}

Scratch::~Scratch() {
  if (!memory_.defined() || memory_.numel() > kPoolBytes) return;
  const std::lock_guard<std::mutex> lock(pool().mutex);
  // The block takes an empty place, else that of the smallest block.
  at::Tensor* place = &pool().blocks[0];
  for (at::Tensor& block : pool().blocks) {
    if (!place->defined()) break;
    if (!block.defined() || block.numel() < place->numel()) place = &block;
  }
  if (!place->defined() || place->numel() < memory_.numel()) *place = std::move(memory_);
}

}  // namespace sparsetrain
