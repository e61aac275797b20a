// The functions of one namespace, as a table.

template <class T>
static constexpr Kernels<T> make_table(const char* name) {
  return {name,
          {Vector::kWidth, Vector::kRegisters, static_cast<int>(sizeof(Scalar))},
          pixel_lists<T>,
          spread<T>,
          channel_lists<T>,
          correlate<T>,
          channel_sums<T>};
}
