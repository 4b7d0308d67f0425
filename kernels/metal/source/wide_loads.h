// Four neighbors in one load, whatever their address: a packed vector needs no more alignment than one element.

inline float4 four(const device float* p) {
  return float4(*(const device packed_float4*)p);
}

inline float4 four(const device half* p) {
  return float4(half4(*(const device packed_half4*)p));
}

inline float4 four(const device bfloat16_t* p) {  // the upper halves of floats
  return as_type<float4>(uint4(ushort4(*(const device packed_ushort4*)p)) << 16);
}
