// A number known at run time as a template argument.
#pragma once

#include "isa_name.h"

namespace imn::IMN_ISA {

template <int N>
struct Int {
  static constexpr int value = N;
};

// Calls f(Int<m>()), so that the rows of x become a constant of the loops over them; 1 <= m <= MAX.
template <int MAX, typename F>
inline void for_rows(int m, const F& f) {
  if constexpr (MAX > 1) {
    if (m < MAX) return for_rows<MAX - 1>(m, f);
  }
  f(Int<MAX>());
}

}  // namespace imn::IMN_ISA
