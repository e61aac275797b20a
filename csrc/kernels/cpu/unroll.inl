// unroll<N>(f): f(0), .., f(N - 1) with constant arguments, so that arrays indexed by them become
// registers. Included inside each ISA's namespace: a shared template would be compiled once, for
// the ISA that came first.

template <class F, int... kIndex>
static INLINE void unroll_sequence(F&& f, std::integer_sequence<int, kIndex...>) {
  (f(Constant<kIndex>{}), ...);
}

template <int kCount, class F>
static INLINE void unroll(F&& f) {
  unroll_sequence(static_cast<F&&>(f), std::make_integer_sequence<int, kCount>{});
}
