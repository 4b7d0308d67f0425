// Packed weights into the interleaved order, and back.
#pragma once

#include "../convert.h"
#include "../isa.h"

namespace imn::IMN_ISA {

// The nibbles of a word, n0 lowest, as bytes n0 | n4 << 4, n1 | n5 << 4, ...; and back.
inline uint32_t spread_nibbles(uint32_t v) {
  uint32_t low = v & 0xFFFF, high = v >> 16;
  low = (low | low << 8) & 0x00FF00FF, high = (high | high << 8) & 0x00FF00FF;
  low = (low | low << 4) & 0x0F0F0F0F, high = (high | high << 4) & 0x0F0F0F0F;
  return low | high << 4;
}
inline uint32_t gather_nibbles(uint32_t v) {
  uint32_t low = v & 0x0F0F0F0F, high = (v >> 4) & 0x0F0F0F0F;
  low = (low | low >> 4) & 0x00FF00FF, high = (high | high >> 4) & 0x00FF00FF;
  low = (low | low >> 8) & 0xFFFF, high = (high | high >> 8) & 0xFFFF;
  return low | high << 16;
}

// The tile of outputs n0.. (a multiple of kTileOutputs) of q to `out`, where w begins.
inline void interleave_tile(const Quantized& q, const Interleaved& w, int n0, uint8_t* out) {
  const int groups = q.k / q.group, words = q.group * q.bits / 32, count = min_(kTileOutputs, q.n - n0);
  const int64_t size = int64_t(size_of(q.dtype)), piece_bytes = w.piece_bytes(), code_bytes = w.code_bytes();
  uint8_t* tile = out + (w.piece(n0, 0) - w.data);
  if (count < kTileOutputs) __builtin_memset(tile, 0, groups * piece_bytes);
  constexpr int kSome = 4;  // groups of an output at a time: whole cache lines of it
  for (int g0 = 0; g0 < groups; g0 += kSome) {
    const int some = min_(kSome, groups - g0);
    for (int o = 0; o < count; ++o) {
      const uint32_t* from = q.w + (int64_t)(n0 + o) * groups * words + g0 * words;
      uint32_t spread[kSome * 32];
      for (int i = 0; i < some * words; ++i) spread[i] = q.bits == 4 ? spread_nibbles(from[i]) : from[i];
      for (int g = 0; g < some; ++g) {
        uint8_t* piece = tile + (g0 + g) * piece_bytes;
        for (int j = 0; j < words; ++j) *(uint32_t*)(piece + j * kLineBytes + 4 * o) = spread[g * words + j];
        const int64_t at = ((int64_t)(n0 + o) * groups + g0 + g) * size;
        __builtin_memcpy(piece + code_bytes + o * size, (const char*)q.scales + at, size);
        __builtin_memcpy(piece + code_bytes + (kTileOutputs + o) * size, (const char*)q.biases + at, size);
      }
    }
  }
}

// The same outputs back, to arrays as mx.quantize makes them; nullptr for those not wanted.
inline void deinterleave_tile(const Interleaved& w, int n0, uint32_t* words_out, void* scales, void* biases) {
  const int groups = w.k / w.group, words = w.group * w.bits / 32, count = min_(kTileOutputs, w.n - n0);
  const int64_t size = int64_t(size_of(w.dtype)), code_bytes = w.code_bytes();
  for (int g = 0; g < groups; ++g) {
    const uint8_t* piece = w.piece(n0, g);
    for (int o = 0; o < count; ++o) {
      const int64_t at = (int64_t)(n0 + o) * groups + g;
      for (int j = 0; words_out != nullptr && j < words; ++j) {
        const uint32_t v = *(const uint32_t*)(piece + j * kLineBytes + 4 * o);
        words_out[at * words + j] = w.bits == 4 ? gather_nibbles(v) : v;
      }
      const uint8_t* from = piece + code_bytes + o * size;
      if (scales != nullptr) __builtin_memcpy((char*)scales + at * size, from, size);
      if (biases != nullptr) __builtin_memcpy((char*)biases + at * size, from + kTileOutputs * size, size);
    }
  }
}

}  // namespace imn::IMN_ISA
