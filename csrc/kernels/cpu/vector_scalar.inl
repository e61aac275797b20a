// The portable vector type: a short array, for the compiler to vectorise as it can. Number: float
// or double.

struct Vector {
  using Scalar = Number;
  static constexpr int kWidth = 16 / static_cast<int>(sizeof(Number));
  static constexpr int kRegisters = 16;
  struct Reg {
    Number lane[kWidth];
  };
  struct Offsets {
    uint32_t lane[kWidth];
  };

  static INLINE Reg zero() { return Reg{}; }
  static INLINE Reg load(const Number* p) {
    Reg v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static INLINE Reg broadcast(const Number* p) {
    Reg v;
    for (Number& lane : v.lane) lane = *p;
    return v;
  }
  static INLINE void store(Number* p, Reg v) { std::memcpy(p, &v, sizeof v); }
  // Where there are stores past the caches.
  static INLINE void stream(Number* p, Reg v) { store(p, v); }
  static INLINE void stream_end() {}
  static INLINE Reg add(Reg a, Reg b) {
    for (int i = 0; i < kWidth; ++i) a.lane[i] += b.lane[i];
    return a;
  }
  // acc + a * b
  static INLINE Reg fma(Reg a, Reg b, Reg acc) {
    for (int i = 0; i < kWidth; ++i) acc.lane[i] += a.lane[i] * b.lane[i];
    return acc;
  }

  // n in [0, kWidth]: only the first n lanes are read or written.
  template <class T>
  static INLINE Reg load_first(const T* p, int n) {
    Reg v{};
    for (int i = 0; i < n; ++i) v.lane[i] = Storage<T>::load(p[i]);
    return v;
  }
  template <class T>
  static INLINE void store_first(T* p, Reg v, int n) {
    for (int i = 0; i < n; ++i) p[i] = Storage<T>::store(v.lane[i]);
  }

  static INLINE Offsets load_offsets(const uint32_t* p) {
    Offsets v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  // first, first + step, ...
  static INLINE Offsets ramp(uint32_t first, uint32_t step) {
    Offsets v;
    for (int i = 0; i < kWidth; ++i) v.lane[i] = first + static_cast<uint32_t>(i) * step;
    return v;
  }
  // Appends the nonzero lanes (NaN counts as one) and their offsets; returns how many. Writes up to
  // kWidth entries whatever the count: no branch to mispredict.
  static INLINE int append(Reg v, Offsets offsets, Number* values, uint32_t* out) {
    int count = 0;
    for (int i = 0; i < kWidth; ++i) {
      values[count] = v.lane[i];
      out[count] = offsets.lane[i];
      count += v.lane[i] != Number(0);
    }
    return count;
  }

  // m[i] lane j <-> m[j] lane i.
  static INLINE void transpose(Reg (&m)[kWidth]) {
    for (int i = 0; i < kWidth; ++i) {
      for (int j = 0; j < i; ++j) std::swap(m[i].lane[j], m[j].lane[i]);
    }
  }
};
