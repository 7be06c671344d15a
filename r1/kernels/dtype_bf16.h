// Names of the templates for bfloat16: two values a step, one 32-bit word.
#define NAME(name) name##_bf16
#define SCALAR bf16
#define STEP uint32_t
#define STEP_WIDTH 2
#define STEP_VECTOR uint16x

INLINE float NAME(to_float)(bf16 x) { return scalar_from_bf16(x); }
INLINE bf16 NAME(from_float)(float x) { return scalar_to_bf16(x); }
INLINE uint16x NAME(load_steps)(const uint32_t *p) {
    uint16x x;
    memcpy(&x, p, sizeof x);
    return x;
}
INLINE float16 NAME(step_lanes)(float16 acc, uint16x a, uint16x b) {
#ifdef __AVX512BF16__
    return (float16)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
#else
    acc += (float16)(a << 16) * (float16)(b << 16);
    return acc + (float16)(a & 0xffff0000u) * (float16)(b & 0xffff0000u);
#endif
}
INLINE float16 NAME(step)(float16 acc, uint16x lanes, uint32_t pair) {
#ifdef __AVX512BF16__
    return (float16)_mm512_dpbf16_ps((__m512)acc, (__m512bh)lanes, (__m512bh)_mm512_set1_epi32((int)pair));
#else
    float low = scalar_from_bf16((bf16)pair), high = scalar_from_bf16((bf16)(pair >> 16));
    acc += (float16)(lanes << 16) * low;
    return acc + (float16)(lanes & 0xffff0000u) * high;
#endif
}
INLINE void NAME(store8)(bf16 *p, const float *values, int count) {
    float padded[LANES] = {0};
    bf16 rounded[LANES];
    memcpy(padded, values, 8 * sizeof *padded);
    store_bf16(rounded, load_f32(padded));
    if (count == 8) memcpy(p, rounded, 16);
    else memcpy(p, rounded, count * sizeof *p);
}
