// unroll<N>(f) calls f(0), ..., f(N - 1) with constants as arguments, so that arrays indexed by
// them become registers. Included by all.inl's includers inside each instruction set's namespace: a
// shared template would be compiled once, for whichever instruction set came first.

template <class F, int... kIndex>
static INLINE void unroll_sequence(F&& f, std::integer_sequence<int, kIndex...>) {
  (f(Constant<kIndex>{}), ...);
}

template <int kCount, class F>
static INLINE void unroll(F&& f) {
  unroll_sequence(static_cast<F&&>(f), std::make_integer_sequence<int, kCount>{});
}
