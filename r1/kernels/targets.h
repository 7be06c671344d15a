// Log-probs of target tokens and their gradients, over rows of logits. Included once for each dtype.

INLINE float16 NAME(load_logits)(const SCALAR *row, int64_t v, int64_t size) {
    SCALAR padded[LANES];
    const SCALAR *from = row + v;
    if (v + LANES > size) {
        // Past the end a logit that weighs nothing.
        for (int i = 0; i < LANES; i++) padded[i] = v + i < size ? from[i] : NAME(from_float)(-1e30f);
        from = padded;
    }
#if STEP_WIDTH == 2
    float16 x = load_bf16(from);
#else
    float16 x = load_f32(from);
#endif
    // Of a forbidden token (-inf) too, so that 0 times it is 0.
    return max_lanes(x, broadcast(-1e30f));
}

// For each row under softmax(logits / temperature): the target's log-prob, the logarithm of the
// sum, and the entropy in nats.
void NAME(r1_target_logprobs)(const SCALAR *logits, const int64_t *targets, float *logprobs, float *lse,
                              float *entropies, int64_t num_rows, int64_t size, float temperature,
                              int64_t num_threads) {
    const float scale = 1.0f / temperature;
#pragma omp parallel for schedule(static) num_threads(num_threads)
    for (int64_t n = 0; n < num_rows; n++) {
        const SCALAR *row = logits + n * size;
        float16 tops = broadcast(-1e30f);
        for (int64_t v = 0; v < size; v += LANES) tops = max_lanes(tops, NAME(load_logits)(row, v, size));
        const float top = top_lane(tops) * scale;
        float16 sums = broadcast(0.0f), products = broadcast(0.0f);
        for (int64_t v = 0; v < size; v += LANES) {
            float16 score = NAME(load_logits)(row, v, size) * scale - top;
            float16 weight = exp_lanes(score);
            sums += weight;
            products += weight * score;
        }
        const float total = sum_lanes(sums), log_total = logf(total);
        lse[n] = top + log_total;
        logprobs[n] = NAME(to_float)(row[targets[n]]) * scale - lse[n];
        entropies[n] = log_total - sum_lanes(products) / total;
    }
}

// Over the logits: weights[n] times the gradient of the target's log-prob.
void NAME(r1_logit_gradients)(SCALAR *logits, const int64_t *targets, const float *lse, const float *weights,
                              int64_t num_rows, int64_t size, float temperature, int64_t num_threads) {
    const float scale = 1.0f / temperature;
#pragma omp parallel for schedule(static) num_threads(num_threads)
    for (int64_t n = 0; n < num_rows; n++) {
        SCALAR *row = logits + n * size;
        const float weight = weights[n] * scale;
        const float target = NAME(to_float)(row[targets[n]]);
        for (int64_t v = 0; v < size; v += LANES) {
            SCALAR gradients[LANES];
            float16 gradient = exp_lanes(NAME(load_logits)(row, v, size) * scale - lse[n]) * -weight;
#if STEP_WIDTH == 2
            store_bf16(gradients, gradient);
#else
            store_f32(gradients, gradient);
#endif
            memcpy(row + v, gradients, (v + LANES <= size ? LANES : size - v) * sizeof *row);
        }
        row[targets[n]] = NAME(from_float)(weight * (1.0f - expf(target * scale - lse[n])));
    }
}
