// What stands after the prelude, and after the emulation's: the same for both.

// The bits of a value as another type of the same size.
template <class T, class U> EC_DEVICE T ec_bits(U x) {
  static_assert(sizeof(T) == sizeof(U), "bits of another number");
  T y;
  memcpy(&y, &x, sizeof y);
  return y;
}
