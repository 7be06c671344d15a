// Gradients of pointwise.h, computed in fp32 and rounded once. Once for each dtype.

// The weight's gradient comes in `num_parts` [size], each over a fixed share of the rows, whatever
// the number of threads. `size` is a multiple of 16.
void NAME(r1_rms_norm_backward)(SCALAR *x_gradient, float *parts, const SCALAR *gradient, const SCALAR *x,
                                const SCALAR *weight, int64_t num_rows, int64_t size, float eps,
                                int64_t num_parts, int64_t num_threads) {
#pragma omp parallel for schedule(static) num_threads(num_threads)
    for (int64_t part = 0; part < num_parts; part++) {
        float *sums = parts + part * size;
        memset(sums, 0, size * sizeof *sums);
        for (int64_t n = part * num_rows / num_parts; n < (part + 1) * num_rows / num_parts; n++) {
            const SCALAR *from = x + n * size, *g = gradient + n * size;
            float16 squares = broadcast(0.0f), products = broadcast(0.0f);
            for (int64_t i = 0; i < size; i += LANES) {
                float16 value = NAME(load)(from + i);
                squares += value * value;
                products += value * NAME(load)(g + i) * NAME(load)(weight + i);
            }
            const float factor = 1.0f / sqrtf(sum_lanes(squares) / (float)size + eps);
            const float pull = sum_lanes(products) * factor * factor * factor / (float)size;
            for (int64_t i = 0; i < size; i += LANES) {
                float16 value = NAME(load)(from + i), scaled = NAME(load)(g + i) * factor;
                NAME(store)(x_gradient + n * size + i, scaled * NAME(load)(weight + i) - value * pull);
                store_f32(sums + i, load_f32(sums + i) + scaled * value);
            }
        }
    }
}

// Of silu(gate) * up; `size` is a multiple of 16.
void NAME(r1_gate_backward)(SCALAR *gate_gradient, SCALAR *up_gradient, const SCALAR *gradient,
                            const SCALAR *gate, const SCALAR *up, int64_t size, int64_t num_threads) {
#pragma omp parallel for schedule(static) num_threads(num_threads)
    for (int64_t i = 0; i < size; i += LANES) {
        float16 x = NAME(load)(gate + i), g = NAME(load)(gradient + i);
        float16 sigmoid = 1.0f / one_plus_exp_of_minus(x);
        NAME(store)(up_gradient + i, g * x * sigmoid);
        NAME(store)(gate_gradient + i, g * NAME(load)(up + i) * sigmoid * (1.0f + x * (1.0f - sigmoid)));
    }
}
