#pragma once

namespace imn {

// What activations are rounded to inside products with 4-bit weights.
enum class Activations : int {
  float32 = 0,  // nothing
  int16 = 1,    // 16-bit integers with a scale per block, for few rows and long sums (see matmul.cpp); else float32
  int8 = 2,     // 8-bit integers with a scale per block, always
};

}  // namespace imn
