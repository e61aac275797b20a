// make_table() collects the functions of one instruction set for one storage type. Included by
// all.inl.

template <class T>
static constexpr Kernels<T> make_table(const char* name) {
  return {name,
          {Vector::kWidth, Vector::kRegisters, static_cast<int>(sizeof(Scalar))},
          build_pixel_lists<T>,
          scatter<T>,
          build_channel_lists<T>,
          grad_weight<T>,
          channel_sums<T>};
}
