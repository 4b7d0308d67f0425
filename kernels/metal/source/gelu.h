// gelu(x) = x · (1 + erf(x / sqrt 2)) / 2, the exact form. Metal has no erf.
//
// erf in float32 within 1 ulp: a minimax polynomial around 0, 1 - exp(polynomial) beyond. Coefficients by N. Juffa
// (stackoverflow.com/a/35148199), the ones MLX's own erf.h uses. From macOS 15 on a bare metal::exp is the fast one, also
// where MLX compiles in safe mode; precise::exp is the same everywhere, and is called once per output.

inline float erf_exact(float a) {
  const float t = metal::abs(a);
  const float s = a * a;
  float r;
  if (t > 0.927734375f) {
    r = metal::fma(-1.72853470e-5f, t, 3.83197126e-4f);
    const float u = metal::fma(-3.88396438e-3f, t, 2.42546219e-2f);
    r = metal::fma(r, s, u);
    r = metal::fma(r, t, -1.06777877e-1f);
    r = metal::fma(r, t, -6.34846687e-1f);
    r = metal::fma(r, t, -1.28717512e-1f);
    r = metal::fma(r, t, -t);
    r = metal::copysign(1.0f - metal::precise::exp(r), a);
  } else {
    r = metal::fma(-5.96761703e-4f, s, 4.99119423e-3f);
    r = metal::fma(r, s, -2.67681349e-2f);
    r = metal::fma(r, s, 1.12819925e-1f);
    r = metal::fma(r, s, -3.76125336e-1f);
    r = metal::fma(r, s, 1.28379166e-1f);
    r = metal::fma(r, a, a);
  }
  return r;
}

inline float gelu(float x) {
  return 0.5f * x * (1.0f + erf_exact(x * 0.70710678f));
}
