// Products with weights in 8 or 4 bits. Included once for each dtype of x and result.
//
// A weight is scale * q + low, q unsigned, alike for 32 inputs of an output (GGUF's Q4_1). Inputs
// become 8-bit integers with a scale for each 32 of a row, so that products are sums of integers:
// exact, in any order. Lanes are 16 outputs, whose weights lie side by side:
//   8 bits  [O / 16][I / 4][16][4]
//   4 bits  [O / 16][I / 8][16][4]   low halves are inputs 0-3, high ones 4-7
//   scales  [O / 16][I / 32][scale, low][16] in bf16

#ifndef QUANTIZED_ONCE
#define QUANTIZED_ONCE
#define GROUP 32

typedef struct {
    const uint8_t *values;
    const bf16 *scales;
    const void *bias;
    int64_t num_outputs;
    void *out;
    int64_t out_stride;
} QuantizedWeight;

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

typedef struct {
    const int8_t *values;
    const float *scales, *sums;
} QuantizedRow;

// 16 outputs of up to 4 rows, from `values` and `scales` of these outputs on.
INLINE void quantized_block(const int num_rows, const int bits, const uint8_t *values,
                            const bf16 *scales, const QuantizedRow *rows, int64_t num_groups,
                            float16 *out) {
#pragma GCC unroll 4
    for (int r = 0; r < num_rows; r++) out[r] = broadcast(0.0f);
    for (int64_t g = 0; g < num_groups; g++) {
        uint16x w[8];
        if (bits == 8) {
            memcpy(w, values + g * 512, sizeof w);
        } else {
            uint16x pairs[4];
            memcpy(pairs, values + g * 256, sizeof pairs);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                w[2 * i] = pairs[i] & 0x0f0f0f0fu;
                w[2 * i + 1] = pairs[i] >> 4 & 0x0f0f0f0fu;
            }
        }
        // The next 16 outputs' weights lie behind these.
        __builtin_prefetch(values + (num_groups + g) * 64 * bits);
        float16 scale = load_bf16(scales + g * 32), low = load_bf16(scales + g * 32 + LANES);
#pragma GCC unroll 4
        for (int r = 0; r < num_rows; r++) {
            uint32_t x[8];
            memcpy(x, rows[r].values + g * GROUP, sizeof x);
            int16x even = {0}, odd = {0};
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) {
                even = add_products(even, w[2 * i], x[2 * i]);
                odd = add_products(odd, w[2 * i + 1], x[2 * i + 1]);
            }
            float16 dots = __builtin_convertvector(even + odd, float16);
            out[r] += dots * rows[r].scales[g] * scale;
            out[r] += low * rows[r].sums[g];
        }
    }
}
#endif

static void NAME(quantize_row)(const SCALAR *x, int64_t size, int8_t *values, float *scales,
                               float *sums) {
    for (int64_t g = 0; g < size / GROUP; g++) {
        const float16 first = NAME(load)(x + g * GROUP), second = NAME(load)(x + g * GROUP + LANES);
        float peak = top_lane(max_lanes(max_lanes(first, -first), max_lanes(second, -second)));
        float inverse = peak > 0 ? 127.0f / peak : 0.0f;
        // Adding 1.5 * 2^23 rounds to the nearest integer.
        int16x low = (int16x)(first * inverse + 12582912.0f) - 0x4b400000;
        int16x high = (int16x)(second * inverse + 12582912.0f) - 0x4b400000;
        int32_t sum = 0;
        for (int i = 0; i < LANES; i++) {
            values[g * GROUP + i] = (int8_t)low[i];
            values[g * GROUP + LANES + i] = (int8_t)high[i];
            sum += low[i] + high[i];
        }
        // A sum that is not finite makes every output so: it must not look like a number.
        float total = sum_lanes(first + second);
        scales[g] = total - total == 0 ? peak / 127.0f : NAN;
        sums[g] = (float)sum * scales[g];
    }
}

// x [M, I] times each of the weights, into its own output.
void NAME(r1_quantized_linear)(const SCALAR *x, int64_t num_rows, int64_t num_inputs,
                               const QuantizedWeight *weights, int64_t num_weights, int64_t bits,
                               int64_t num_threads) {
    const int64_t num_groups = num_inputs / GROUP;
    float *scales = scratch(num_rows * (2 * num_groups * sizeof(float) + num_inputs) + 64);
    float *sums = scales + num_rows * num_groups;
    int8_t *values = (int8_t *)(sums + num_rows * num_groups);
    int64_t total = 0;
    for (int64_t i = 0; i < num_weights; i++) total += (weights[i].num_outputs + LANES - 1) / LANES;
    // For a few rows the threads need not meet once more.
    const int is_alone = num_rows <= 4;
    for (int64_t row = 0; is_alone && row < num_rows; row++)
        NAME(quantize_row)(x + row * num_inputs, num_inputs, values + row * num_inputs,
                           scales + row * num_groups, sums + row * num_groups);
#pragma omp parallel num_threads(num_threads)
    {
        if (!is_alone)
#pragma omp for schedule(static)
            for (int64_t row = 0; row < num_rows; row++)
                NAME(quantize_row)(x + row * num_inputs, num_inputs, values + row * num_inputs,
                                   scales + row * num_groups, sums + row * num_groups);
#pragma omp for schedule(dynamic, 4) nowait
        for (int64_t unit = 0; unit < total; unit++) {
            int64_t block = unit;
            const QuantizedWeight *weight = weights;
            for (; block >= (weight->num_outputs + LANES - 1) / LANES; weight++)
                block -= (weight->num_outputs + LANES - 1) / LANES;
            const uint8_t *packed = weight->values + block * num_groups * 64 * bits;
            const bf16 *packed_scales = weight->scales + block * num_groups * 2 * LANES;
            int64_t left = weight->num_outputs - block * LANES;
            int64_t width = left < LANES ? left : LANES;
            for (int64_t first = 0; first < num_rows; first += 4) {
                int64_t count = num_rows - first < 4 ? num_rows - first : 4;
                QuantizedRow rows[4];
                float16 out[4];
                for (int r = 0; r < count; r++)
                    rows[r] = (QuantizedRow){values + (first + r) * num_inputs,
                                             scales + (first + r) * num_groups,
                                             sums + (first + r) * num_groups};
#define CASE(n, b)                                                                      \
    if (count == n && bits == b)                                                        \
        quantized_block(n, b, packed, packed_scales, rows, num_groups, out);
                CASE(1, 4) CASE(2, 4) CASE(3, 4) CASE(4, 4)
                CASE(1, 8) CASE(2, 8) CASE(3, 8) CASE(4, 8)
#undef CASE
                for (int r = 0; r < count; r++) {
                    SCALAR *to = (SCALAR *)weight->out + (first + r) * weight->out_stride + block * LANES;
                    SCALAR padded[LANES] = {0};
                    if (weight->bias) {
                        const SCALAR *bias = (const SCALAR *)weight->bias + block * LANES;
                        memcpy(padded, bias, width * sizeof *padded);
                        out[r] += NAME(load)(padded);
                    }
                    NAME(store)(padded, out[r]);
                    memcpy(to, padded, width * sizeof *padded);
                }
            }
        }
    }
}
