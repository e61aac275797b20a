// The portable vector type: an array of 16 bytes, which the compiler vectorizes as it can. Included
// by scalar.cpp in a namespace that defines Number as float or double. Its members are the
// interface that the kernels of all.inl require of every vector type.

struct Vector {
  using Scalar = Number;
  static constexpr int kWidth = 16 / static_cast<int>(sizeof(Number));  // lanes
  static constexpr int kRegisters = 16;                                 // that kernels may use
  // A vector register.
  struct Reg {
    Number lane[kWidth];
  };
  // A 32-bit byte offset in each lane.
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
  // A store past the caches, where the instruction set has one. p is aligned to the bytes of a
  // vector. stream_end() orders such stores before later ones.
  static INLINE void stream(Number* p, Reg v) { store(p, v); }
  static INLINE void stream_end() {}
  static INLINE Reg add(Reg a, Reg b) {
    for (int i = 0; i < kWidth; ++i) a.lane[i] += b.lane[i];
    return a;
  }
  // Returns acc + a * b.
  static INLINE Reg fma(Reg a, Reg b, Reg acc) {
    for (int i = 0; i < kWidth; ++i) acc.lane[i] += a.lane[i] * b.lane[i];
    return acc;
  }

  // Loads or stores the first n lanes, for n in [0, kWidth]. No other element is accessed, and the
  // other lanes of the result are 0. Converts from and to the storage type T.
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
  // Returns first, first + step, first + 2 * step, ...
  static INLINE Offsets ramp(uint32_t first, uint32_t step) {
    Offsets v;
    for (int i = 0; i < kWidth; ++i) v.lane[i] = first + static_cast<uint32_t>(i) * step;
    return v;
  }
  // Writes the nonzero lanes (NaN is nonzero), in order, and their offsets. Returns their number.
  // Up to kWidth entries are overwritten, whatever the number: that avoids a branch.
  static INLINE int append(Reg v, Offsets offsets, Number* values, uint32_t* out) {
    int count = 0;
    for (int i = 0; i < kWidth; ++i) {
      values[count] = v.lane[i];
      out[count] = offsets.lane[i];
      count += v.lane[i] != Number(0);
    }
    return count;
  }

  // Exchanges lane j of m[i] with lane i of m[j] for all i, j.
  static INLINE void transpose(Reg (&m)[kWidth]) {
    for (int i = 0; i < kWidth; ++i) {
      for (int j = 0; j < i; ++j) std::swap(m[i].lane[j], m[j].lane[i]);
    }
  }
};
