// Products with weights in 8 or 4 bits. Included once for each dtype of x and result.
//
// A weight is scale * q + low, q unsigned, alike for 32 inputs of an output (GGUF's Q4_1). Inputs
// become 8-bit integers with a scale for each 32 of a row, so that products are sums of integers:
// exact, in any order. Lanes are 16 outputs, which lie side by side in the order of reading:
//   [O / 16][I / 32] of  scale[16], low[16] in bf16, then
//                        8 bits  [8][16][4]
//                        4 bits  [4][16][4]   low halves are inputs 0-3, high ones 4-7

#ifndef QUANTIZED_ONCE
#define QUANTIZED_ONCE
#define GROUP 32
#define GROUP_BYTES(bits) (64 + 64 * (bits))
// Rows that a block of weights multiplies at once.
#define QUANTIZED_ROWS 8

// Rows [M, I] in 8 bits; for each group its scale, and its sum in units of x.
typedef struct {
    int8_t *values;
    float *scales, *sums;
} QuantizedRows;

// acc[lane] += sum of 4 of w[4 lane + i] * x[i], w unsigned, x signed.
INLINE int16x add_products(int16x acc, uint16x w, uint32_t x) {
#ifdef __AVX512VNNI__
    return (int16x)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, _mm512_set1_epi32((int)x));
#else
    for (int i = 0; i < 4; i++)
        acc += (int16x)(w >> (8 * i) & 0xff) * (int32_t)(int8_t)(x >> (8 * i));
    return acc;
#endif
}

// 16 outputs of some rows from `first` on; as much from `ahead` on is fetched.
INLINE void quantized_block(const int num_rows, const int bits, const char *weights,
                            const QuantizedRows *x, int64_t first, int64_t num_groups,
                            const char *ahead, float16 *out) {
#pragma GCC unroll 8
    for (int r = 0; r < num_rows; r++) out[r] = broadcast(0.0f);
    for (int64_t g = 0; g < num_groups; g++, weights += GROUP_BYTES(bits), ahead += GROUP_BYTES(bits)) {
        uint16x w[8];
        memcpy(w, weights + 64, 64 * bits);
        if (bits == 4)
#pragma GCC unroll 4
            for (int i = 3; i >= 0; i--) {
                w[2 * i + 1] = w[i] >> 4 & 0x0f0f0f0fu;
                w[2 * i] = w[i] & 0x0f0f0f0fu;
            }
#pragma GCC unroll 9
        for (int i = 0; i < GROUP_BYTES(bits); i += 64) __builtin_prefetch(ahead + i);
        float16 scale = load_bf16((const bf16 *)weights), low = load_bf16((const bf16 *)weights + LANES);
#pragma GCC unroll 8
        for (int r = 0; r < num_rows; r++) {
            const int64_t place = (first + r) * num_groups + g;
            uint32_t values[8];
            memcpy(values, x->values + place * GROUP, sizeof values);
            int16x even = {0}, odd = {0};
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                even = add_products(even, w[2 * i], values[2 * i]);
                odd = add_products(odd, w[2 * i + 1], values[2 * i + 1]);
            }
            float16 dots = __builtin_convertvector(even + odd, float16);
            out[r] += dots * x->scales[place] * scale;
            out[r] += low * x->sums[place];
        }
    }
}

// The same for a number of rows that is known here only; returns how many rows are done.
static int quantized_rows(int64_t num_rows, int64_t bits, const char *weights,
                          const QuantizedRows *x, int64_t first, int64_t num_groups,
                          const char *ahead, float16 *out) {
#define CASE(n)                                                                              \
    if (num_rows >= n) {                                                                     \
        if (bits == 4) quantized_block(n, 4, weights, x, first, num_groups, ahead, out);     \
        else quantized_block(n, 8, weights, x, first, num_groups, ahead, out);               \
        return n;                                                                            \
    }
    CASE(QUANTIZED_ROWS) CASE(4) CASE(2) CASE(1)
#undef CASE
    return 0;
}

INLINE QuantizedRows quantized_rows_at(void *memory, int64_t num_rows, int64_t num_inputs) {
    float *scales = memory, *sums = scales + num_rows * num_inputs / GROUP;
    return (QuantizedRows){(int8_t *)(sums + num_rows * num_inputs / GROUP), scales, sums};
}
#endif

static void NAME(quantize_row)(const SCALAR *x, int64_t size, const QuantizedRows *rows, int64_t row) {
    for (int64_t g = 0; g < size / GROUP; g++) {
        const int64_t place = row * (size / GROUP) + g;
        const float16 first = NAME(load)(x + g * GROUP), second = NAME(load)(x + g * GROUP + LANES);
        float peak = top_lane(max_lanes(max_lanes(first, -first), max_lanes(second, -second)));
        float inverse = peak > 0 ? 127.0f / peak : 0.0f;
        // Adding 1.5 * 2^23 rounds to the nearest integer.
        int16x low = (int16x)(first * inverse + 12582912.0f) - 0x4b400000;
        int16x high = (int16x)(second * inverse + 12582912.0f) - 0x4b400000;
        float sum = sum_lanes(__builtin_convertvector(low + high, float16));
        bytes16 bytes[2] = {__builtin_convertvector(low, bytes16), __builtin_convertvector(high, bytes16)};
        memcpy(rows->values + place * GROUP, bytes, sizeof bytes);
        // A sum that is not finite makes every output so: it must not look like a number.
        float total = sum_lanes(first + second);
        rows->scales[place] = total - total == 0 ? peak / 127.0f : NAN;
        rows->sums[place] = sum * rows->scales[place];
    }
}

// Write 16 outputs of all rows from `column` on; `up` is multiplied to silu of the others.
static void NAME(quantized_outputs)(const NAME(Target) *target, const QuantizedRows *x,
                                    int64_t bits, int64_t num_groups, int64_t column,
                                    const char *weight, const char *up, const void *const ahead[2]) {
    const int64_t place = column * num_groups * GROUP_BYTES(bits) / LANES;
    const int64_t left = target->num_outputs - column, width = left < LANES ? left : LANES;
    float16 bias = broadcast(0.0f), out[QUANTIZED_ROWS], ups[QUANTIZED_ROWS];
    SCALAR padded[LANES] = {0};
    if (target->bias) {
        memcpy(padded, target->bias + column, width * sizeof *padded);
        bias = NAME(load)(padded);
    }
    for (int64_t row = 0, count; row < target->num_rows; row += count) {
        count = quantized_rows(target->num_rows - row, bits, weight + place, x, row, num_groups,
                               ahead[0], out);
        if (up)
            quantized_rows(target->num_rows - row, bits, up + place, x, row, num_groups, ahead[1], ups);
        for (int r = 0; r < count; r++) {
            float16 value = out[r];
            if (up) value = NAME(gated)(target, value, ups[r]);
            NAME(store)(padded, value + bias);
            memcpy(target->out + (row + r) * target->stride + column, padded, width * sizeof *padded);
        }
    }
}
