// Norms and rotary positions, computed in fp32 and rounded once. Once for each dtype.

INLINE void NAME(norm_row)(SCALAR *to, const SCALAR *from, const SCALAR *weight, int64_t size,
                           float eps) {
    float16 squares = broadcast(0.0f);
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) squares += NAME(load)(from + i) * NAME(load)(from + i);
    float total = sum_lanes(squares);
    for (int64_t j = i; j < size; j++) total += NAME(to_float)(from[j]) * NAME(to_float)(from[j]);
    float factor = 1.0f / sqrtf(total / (float)size + eps);
    for (i = 0; i + LANES <= size; i += LANES)
        NAME(store)(to + i, NAME(load)(from + i) * factor * NAME(load)(weight + i));
    for (; i < size; i++)
        to[i] = NAME(from_float)(NAME(to_float)(from[i]) * factor * NAME(to_float)(weight[i]));
}

void NAME(r1_rms_norm)(SCALAR *out, const SCALAR *x, const SCALAR *weight, int64_t num_rows,
                       int64_t size, float eps, int64_t num_threads) {
#pragma omp parallel for num_threads(num_rows < 16 ? 1 : num_threads)
    for (int64_t row = 0; row < num_rows; row++)
        NAME(norm_row)(out + row * size, x + row * size, weight, size, eps);
}

// One head, with a token's cos and sin [K], halves alike.
INLINE void NAME(rotate_head)(SCALAR *to, const SCALAR *from, const SCALAR *c, const SCALAR *s,
                              int64_t head_dim) {
    const int64_t half = head_dim / 2;
    int64_t i = 0;
    for (; i + LANES <= half; i += LANES) {
        float16 a = NAME(load)(from + i), b = NAME(load)(from + half + i);
        float16 cos = NAME(load)(c + i), sin = NAME(load)(s + i);
        NAME(store)(to + i, a * cos - b * sin);
        NAME(store)(to + half + i, b * cos + a * sin);
    }
    for (; i < half; i++) {
        float a = NAME(to_float)(from[i]), b = NAME(to_float)(from[half + i]);
        float cos = NAME(to_float)(c[i]), sin = NAME(to_float)(s[i]);
        to[i] = NAME(from_float)(a * cos - b * sin);
        to[half + i] = NAME(from_float)(b * cos + a * sin);
    }
}

// Heads [N, H, K] with strides to [N, H, K] in one piece; cos and sin [N, K].
void NAME(r1_rotate)(SCALAR *out, const SCALAR *x, int64_t token_stride, int64_t head_stride,
                     const SCALAR *cosines, const SCALAR *sines, int64_t num_tokens,
                     int64_t num_heads, int64_t head_dim, int64_t num_threads) {
#pragma omp parallel for num_threads(num_tokens < 16 ? 1 : num_threads)
    for (int64_t n = 0; n < num_tokens; n++)
        for (int64_t h = 0; h < num_heads; h++)
            NAME(rotate_head)(out + (n * num_heads + h) * head_dim,
                              x + n * token_stride + h * head_stride, cosines + n * head_dim,
                              sines + n * head_dim, head_dim);
}

// silu(gate) * up over rows of one length; `out` may be `gate`.
void NAME(r1_gate)(SCALAR *out, const SCALAR *gate, const SCALAR *up, int64_t num_rows,
                   int64_t size, int64_t num_threads) {
#pragma omp parallel for num_threads(num_rows < 16 ? 1 : num_threads)
    for (int64_t row = 0; row < num_rows; row++) {
        int64_t i = row * size, end = i + size;
        for (; i + LANES <= end; i += LANES) {
            float16 x = NAME(load)(gate + i);
            NAME(store)(out + i, x / one_plus_exp_of_minus(x) * NAME(load)(up + i));
        }
        for (; i < end; i++) {
            float x = NAME(to_float)(gate[i]);
            out[i] = NAME(from_float)(x / (1.0f + expf(-x)) * NAME(to_float)(up[i]));
        }
    }
}
