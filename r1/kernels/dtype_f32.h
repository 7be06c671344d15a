// Names of the templates for fp32: one value a step.
#define NAME(name) name##_f32
#define SCALAR float
#define STEP float
#define STEP_WIDTH 1
#define STEP_VECTOR float16

INLINE float NAME(to_float)(float x) { return x; }
INLINE float NAME(from_float)(float x) { return x; }
INLINE float16 NAME(load_steps)(const float *p) { return load_f32(p); }
INLINE float16 NAME(step_lanes)(float16 acc, float16 a, float16 b) { return acc + a * b; }
INLINE float16 NAME(step)(float16 acc, float16 lanes, float value) { return acc + lanes * value; }
// To what the dtype can hold, and back.
INLINE float16 NAME(rounded)(float16 x) { return x; }
INLINE void NAME(store8)(float *p, const float *values, int count) {
    if (count == 8) memcpy(p, values, 32);
    else memcpy(p, values, count * sizeof *p);
}
// Sixteen rows of eight values, given as eight vectors of a value of each row.
INLINE void NAME(store_turned)(float *p, int64_t stride, const float16 *values) {
    float16 pairs[8];
    transpose_eight(values, pairs);
    for (int r = 0; r < LANES; r++) memcpy(p + r * stride, (float *)pairs + r * 8, 32);
}
