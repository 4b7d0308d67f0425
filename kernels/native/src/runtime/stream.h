// How fast memory gives bytes to all threads: the yardstick of `bench`, not an operation of the model.
#pragma once

#include <cstddef>
#include <cstdint>

namespace imn {

// Loads every word of a buffer once, on all threads of the pool, and returns their bitwise or, which keeps the loads
// from being optimized away; writes nothing.
std::uint64_t stream(const std::uint64_t* words, std::size_t count);

}  // namespace imn
