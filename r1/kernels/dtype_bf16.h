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
// To what the dtype can hold, and back.
INLINE float16 NAME(rounded)(float16 x) {
    return (float16)(__builtin_convertvector(bf16_lanes(x), uint16x) << 16);
}
INLINE void NAME(store8)(bf16 *p, const float *values, int count) {
    float padded[LANES] = {0};
    bf16 rounded[LANES];
    memcpy(padded, values, 8 * sizeof *padded);
    store_bf16(rounded, load_f32(padded));
    if (count == 8) memcpy(p, rounded, 16);
    else memcpy(p, rounded, count * sizeof *p);
}
// Sixteen rows of eight values, given as eight vectors of a value of each row. Each half of a vector
// is turned over for itself: rows r and r + 8 come out side by side.
INLINE void NAME(store_turned)(bf16 *p, int64_t stride, const float16 *values) {
    ushort16 a[8], b[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) a[i] = bf16_lanes(values[i]);
#pragma GCC unroll 3
    for (int round = 0; round < 3; round++) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            b[2 * i] = __builtin_shufflevector(a[i], a[i + 4], 0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9, 25, 10, 26, 11, 27);
            b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + 4], 4, 20, 5, 21, 6, 22, 7, 23, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        memcpy(a, b, sizeof a);
    }
#pragma GCC unroll 8
    for (int r = 0; r < 8; r++) {
        memcpy(p + r * stride, &a[r], 16);
        memcpy(p + (r + 8) * stride, (char *)&a[r] + 16, 16);
    }
}
