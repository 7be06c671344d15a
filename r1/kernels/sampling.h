// One token a row from logits [B, V], with its log-probs. Once for each dtype of logits.
//
// No sort: top-k and top-p need the smallest probability that is kept, which a quickselect finds
// among the few candidates that are not too small to matter.

#ifndef SAMPLING_ONCE
#define SAMPLING_ONCE
#define SUM_BLOCK 1024

typedef struct {
    double temperature, top_p, min_p, uniform;
    int64_t top_k;             // 0: all
    const int64_t *banned;     // ids, -1 for none
    const uint8_t *allowed;    // of the vocabulary, or NULL
} SampleSettings;

// e^(x - peak) in place of x, sums of blocks; -inf gives 0.
static double exp_row(float *values, int64_t size, float peak, double *sums) {
    double total = 0;
    for (int64_t first = 0, block = 0; first < size; first += SUM_BLOCK, block++) {
        int64_t end = first + SUM_BLOCK < size ? first + SUM_BLOCK : size, i = first;
        float16 sum = broadcast(0.0f);
        for (; i + LANES <= end; i += LANES) {
            float16 p = exp_lanes(load_f32(values + i) - peak);
            store_f32(values + i, p);
            sum += p;
        }
        double part = sum_lanes(sum);
        for (; i < end; i++) part += values[i] = expf(values[i] - peak);
        total += sums[block] = part;
    }
    return total;
}

static void swap(float *a, float *b) { float c = *a; *a = *b; *b = c; }

// The value at which a sum (`by_mass`) or count of the largest values reaches `target`. Reorders.
static float select_value(float *values, int64_t size, double target, int by_mass) {
    int64_t low = 0, high = size;
    double reached = 0;
    float pivot = 0;
    while (low < high) {
        float a = values[low], b = values[(low + high) / 2], c = values[high - 1];
        pivot = a > b ? (b > c ? b : a > c ? c : a) : (a > c ? a : b > c ? c : b);
        // Larger ones, equal ones, unknown ones, smaller ones.
        int64_t equal = low, next = low, less = high;
        double above = 0, same = 0;
        while (next < less) {
            float value = values[next];
            double weight = by_mass ? value : 1;
            if (value > pivot) {
                above += weight;
                swap(values + equal++, values + next++);
            } else if (value == pivot) {
                same += weight;
                next++;
            } else {
                swap(values + next, values + --less);
            }
        }
        if (reached + above >= target && equal > low) high = equal;
        else if (reached + above + same >= target) return pivot;
        else {
            reached += above + same;
            low = less;
        }
    }
    return pivot;
}

// The smallest of the values e^(x - peak) that top-k, top-p and min-p leave.
static float smallest_kept(const float *values, float *copy, int64_t size, double total,
                           const SampleSettings *settings) {
    const int has_top_k = settings->top_k > 0 && settings->top_k < size;
    float threshold = (float)settings->min_p;  // the largest value is 1
    if (!has_top_k && settings->top_p >= 1) return threshold;
    // All that are smaller together weigh less than what top-p leaves out.
    float least = has_top_k ? -1.0f : (float)((1 - settings->top_p) * total / (double)size);
    int64_t count = 0;
    for (int64_t i = 0; i < size; i++) {
        copy[count] = values[i];
        count += values[i] >= least;
    }
    if (has_top_k) {
        float kth = select_value(copy, count, (double)settings->top_k, 0);
        threshold = kth > threshold ? kth : threshold;
        if (settings->top_p >= 1) return threshold;
        // The k largest: of those that tie with the last as many as there is room for.
        int64_t kept = 0;
        total = 0;
        for (int64_t i = 0; i < size; i++)
            if (values[i] > kth) total += copy[kept++] = values[i];
        for (; kept < settings->top_k; kept++) total += copy[kept] = kth;
        count = kept;
    }
    float nucleus = select_value(copy, count, settings->top_p * total, 1);
    return nucleus > threshold ? nucleus : threshold;
}

// Where the cumulative sum of the values of at least `threshold` passes the uniform's share.
static int64_t invert(const float *values, int64_t size, float threshold, double uniform,
                      double *sums, double *total) {
    if (threshold > 0) {
        *total = 0;
        for (int64_t first = 0, block = 0; first < size; first += SUM_BLOCK, block++) {
            int64_t end = first + SUM_BLOCK < size ? first + SUM_BLOCK : size;
            sums[block] = 0;
            for (int64_t i = first; i < end; i++) sums[block] += values[i] >= threshold ? values[i] : 0;
            *total += sums[block];
        }
    }
    double left = uniform * *total;
    int64_t last = 0;
    for (int64_t first = 0, block = 0; first < size; first += SUM_BLOCK, block++) {
        int64_t end = first + SUM_BLOCK < size ? first + SUM_BLOCK : size;
        if (sums[block] <= 0) continue;
        if (left >= sums[block] && end < size) {
            left -= sums[block];
            for (int64_t i = first; i < end; i++)
                if (values[i] > 0 && values[i] >= threshold) last = i;
            continue;
        }
        for (int64_t i = first; i < end; i++) {
            if (values[i] <= 0 || values[i] < threshold) continue;
            last = i;
            left -= values[i];
            if (left < 0) return i;
        }
    }
    return last;  // rounding went past the end: the last one that has mass
}

static int64_t first_largest(const float *values, int64_t size, float peak) {
    for (int64_t i = 0; i < size; i++)
        if (values[i] == peak) return i;
    return 0;
}

#endif

static float NAME(read_row)(float *values, const SCALAR *logits, int64_t size) {
    float16 highest = broadcast(-INFINITY);
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) {
        float16 x = NAME(load)(logits + i);
        highest = max_lanes(x, highest);
        store_f32(values + i, x);
    }
    float peak = top_lane(highest);
    for (; i < size; i++) {
        values[i] = NAME(to_float)(logits[i]);
        peak = values[i] > peak ? values[i] : peak;
    }
    return peak;
}

static int64_t NAME(sample_row)(const SCALAR *logits, int64_t size, float *values, float *copy,
                                double *sums, const SampleSettings *settings, int64_t num_banned,
                                float *sampler_logprob, float *raw_logprob) {
    const float raw_peak = NAME(read_row)(values, logits, size);
    const float temperature = settings->temperature > 0 ? (float)settings->temperature : 1;
    int is_changed = settings->allowed != NULL || temperature != 1;
    for (int64_t i = 0; i < num_banned; i++) is_changed |= settings->banned[i] >= 0;
    int64_t token = 0;
    float peak = raw_peak;
    if (settings->temperature == 0 && !is_changed) token = first_largest(values, size, peak);
    double total = exp_row(values, size, raw_peak, sums);
    const double raw_normalizer = raw_peak + log(total);
    if (is_changed) {
        for (int64_t i = 0; i < size; i++) {
            float x = NAME(to_float)(logits[i]) / temperature;
            values[i] = settings->allowed && !settings->allowed[i] ? -INFINITY : x;
        }
        for (int64_t i = 0; i < num_banned; i++)
            if (settings->banned[i] >= 0) values[settings->banned[i]] = -INFINITY;
        peak = -INFINITY;
        for (int64_t i = 0; i < size; i++) peak = values[i] > peak ? values[i] : peak;
        if (settings->temperature == 0) token = first_largest(values, size, peak);
        else total = exp_row(values, size, peak, sums);
    }
    *sampler_logprob = 0;
    if (settings->temperature > 0) {
        float threshold = smallest_kept(values, copy, size, total, settings);
        token = invert(values, size, threshold, settings->uniform, sums, &total);
        *sampler_logprob = (float)(NAME(to_float)(logits[token]) / temperature - peak - log(total));
    }
    *raw_logprob = (float)(NAME(to_float)(logits[token]) - raw_normalizer);
    return token;
}

// `allowed` [B] holds addresses of bool [V], or 0; `banned` [B, num_banned].
void NAME(r1_sample)(int64_t *token_ids, float *sampler_logprobs, float *raw_logprobs,
                     const SCALAR *logits, int64_t num_rows, int64_t size,
                     const double *temperature, const int64_t *top_k, const double *top_p,
                     const double *min_p, const double *uniform, const int64_t *banned,
                     int64_t num_banned, const int64_t *allowed, int64_t num_threads) {
    const int64_t num_sums = size / SUM_BLOCK + 1;
#pragma omp parallel num_threads(num_rows == 1 ? 1 : num_threads)
    {
        float *values = scratch(2 * size * sizeof(float) + (num_sums + 16) * sizeof(double));
        float *copy = values + size;
        double *sums = (double *)(((uintptr_t)(copy + size) + 63) & ~(uintptr_t)63);
#pragma omp for schedule(dynamic, 1)
        for (int64_t row = 0; row < num_rows; row++) {
            const SampleSettings settings = {
                temperature[row], top_p[row], min_p[row], uniform[row], top_k[row],
                banned + row * num_banned, (const uint8_t *)(uintptr_t)allowed[row]};
            token_ids[row] = NAME(sample_row)(logits + row * size, size, values, copy, sums,
                                              &settings, num_banned, sampler_logprobs + row,
                                              raw_logprobs + row);
        }
    }
}
