// Routed experts, forward: gated feed-forward blocks, each on the few tokens that chose it. Included
// once for each dtype.
//
// Rows are (token, choice) pairs sorted by expert. First every row's inner values are computed, a
// task being an expert; then the weighted outputs, a task being some of the output's columns over
// all experts: it alone writes them, in the order of experts, so nothing of a row's width is kept
// and every run gives the same bits. Lanes are inputs: both weights lie as a product wants them. A
// row's result does not depend on the others.

// Rows whose inputs stay in the cache while weights pass by.
#define ROWS 64
// fp32 sums of a task's columns, to fit the second cache.
#define MAX_SUMS (1 << 17)

typedef struct {
    const SCALAR *x, *gate_up, *down;  // [N, D], [E, 2F, D] (gate over up), [E, D, F]
    const float *weights;              // [N, A]
    int64_t *starts, *places;          // an expert's first row, and the end; token * A + choice
    int64_t num_tokens, num_chosen, num_experts, hidden_size, inner_size, num_threads;
} NAME(Experts);

// Lane i of the result is the sum of sums[i]: halves, quarters, and so on.
INLINE float16 NAME(sum_each)(float16 *sums) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        sums[i] = __builtin_shufflevector(sums[i], sums[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23) +
                  __builtin_shufflevector(sums[i], sums[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        sums[i] = __builtin_shufflevector(sums[i], sums[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27) +
                  __builtin_shufflevector(sums[i], sums[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        sums[i] = __builtin_shufflevector(sums[i], sums[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
                  __builtin_shufflevector(sums[i], sums[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    return __builtin_shufflevector(sums[0], sums[1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30) +
           __builtin_shufflevector(sums[0], sums[1], 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
}

// One vector (or half of one, of bf16) of inputs of up to four rows and four rows of a weight.
INLINE void NAME(dot_few_step)(const int num_rows, const int num_bytes, float16 *sums,
                           const SCALAR *const *rows, const SCALAR *weight, int64_t size, int64_t k) {
    STEP_VECTOR x[4];
#pragma GCC unroll 4
    for (int r = 0; r < num_rows; r++) {
        x[r] = (STEP_VECTOR){};
        memcpy(&x[r], rows[r] + k, num_bytes);
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; c++) {
        STEP_VECTOR w = {};
        memcpy(&w, weight + c * size + k, num_bytes);
        // The four rows after these lie behind them.
        __builtin_prefetch(weight + (c + 4) * size + k);
#pragma GCC unroll 4
        for (int r = 0; r < num_rows; r++)
            sums[4 * r + c] = NAME(step_lanes)(sums[4 * r + c], x[r], w);
    }
}

INLINE float16 NAME(dot_few)(const int num_rows, const SCALAR *const *rows, const SCALAR *weight,
                               int64_t size) {
    float16 sums[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) sums[i] = broadcast(0.0f);
    int64_t k = 0;
    for (; k + LANES * STEP_WIDTH <= size; k += LANES * STEP_WIDTH)
        NAME(dot_few_step)(num_rows, 64, sums, rows, weight, size, k);
    if (k < size) NAME(dot_few_step)(num_rows, 32, sums, rows, weight, size, k);
    return NAME(sum_each)(sums);
}

// Up to four rows times four rows of a weight, row after row. `size` is a multiple of 16.
static float16 NAME(dot_four)(int64_t num_rows, const SCALAR *const *rows, const SCALAR *weight,
                              int64_t size) {
    switch (num_rows) {
        case 1: return NAME(dot_few)(1, rows, weight, size);
        case 2: return NAME(dot_few)(2, rows, weight, size);
        case 3: return NAME(dot_few)(3, rows, weight, size);
        default: return NAME(dot_few)(4, rows, weight, size);
    }
}

INLINE void NAME(store_four)(SCALAR *to, int64_t stride, int64_t num_rows, float16 values) {
    SCALAR rounded[LANES];
    NAME(store)(rounded, values);
    for (int64_t r = 0; r < num_rows; r++) memcpy(to + r * stride, rounded + 4 * r, 4 * sizeof *to);
}

// The inner values `first` to `end` of an expert's rows, and both products where they are kept.
static void NAME(inner_values)(const NAME(Experts) *e, SCALAR *inner, SCALAR *products,
                               int64_t expert, int64_t first, int64_t end) {
    const int64_t size = e->hidden_size, width = e->inner_size, last = e->starts[expert + 1];
    const SCALAR *gate = e->gate_up + expert * 2 * width * size, *up = gate + width * size;
    for (int64_t row = e->starts[expert]; row < last; row += ROWS) {
        const int64_t count = last - row < ROWS ? last - row : ROWS;
        const SCALAR *rows[ROWS];
        for (int64_t r = 0; r < count; r++) rows[r] = e->x + e->places[row + r] / e->num_chosen * size;
        for (int64_t f = first; f < end; f += 4)
            for (int64_t r = 0; r < count; r += 4) {
                const int64_t num = count - r < 4 ? count - r : 4, place = row + r;
                float16 g = NAME(dot_four)(num, rows + r, gate + f * size, size);
                float16 u = NAME(dot_four)(num, rows + r, up + f * size, size);
                NAME(store_four)(inner + place * width + f, width, num, g / one_plus_exp_of_minus(g) * u);
                if (!products) continue;
                NAME(store_four)(products + place * 2 * width + f, 2 * width, num, g);
                NAME(store_four)(products + (place * 2 + 1) * width + f, 2 * width, num, u);
            }
    }
}

// The columns `first` to `end` of the output.
static void NAME(output_columns)(const NAME(Experts) *e, SCALAR *out, const SCALAR *inner,
                                 int64_t first, int64_t end) {
    const int64_t size = e->hidden_size, width = e->inner_size, num = end - first;
    float *sums = scratch(e->num_tokens * num * sizeof *sums);
    memset(sums, 0, e->num_tokens * num * sizeof *sums);
    for (int64_t expert = 0; expert < e->num_experts; expert++) {
        const SCALAR *down = e->down + expert * size * width;
        const int64_t last = e->starts[expert + 1];
        for (int64_t row = e->starts[expert]; row < last; row += ROWS) {
            const int64_t count = last - row < ROWS ? last - row : ROWS;
            const SCALAR *rows[ROWS];
            float *to[ROWS], weights[ROWS];
            for (int64_t r = 0; r < count; r++) {
                rows[r] = inner + (row + r) * width;
                to[r] = sums + e->places[row + r] / e->num_chosen * num;
                weights[r] = e->weights[e->places[row + r]];
            }
            for (int64_t d = 0; d < num; d += 4)
                for (int64_t r = 0; r < count; r += 4) {
                    const int64_t left = count - r < 4 ? count - r : 4;
                    float values[LANES];
                    store_f32(values, NAME(dot_four)(left, rows + r, down + (first + d) * width, width));
                    for (int64_t i = 0; i < left; i++)
                        for (int c = 0; c < 4; c++) to[r + i][d + c] += values[4 * i + c] * weights[r + i];
                }
        }
    }
    for (int64_t n = 0; n < e->num_tokens; n++)
        for (int64_t d = 0; d < num; d += LANES)
            NAME(store)(out + n * size + first + d, load_f32(sums + n * num + d));
}

// Rows by expert, those of one in the order of `chosen` [N, A]. Numbers of no expert are left out.
static void NAME(sort_rows)(const NAME(Experts) *e, const int64_t *chosen) {
    const int64_t num_rows = e->num_tokens * e->num_chosen, num_experts = e->num_experts;
    int64_t *next = e->starts + 1;
    memset(e->starts, 0, (num_experts + 1) * sizeof *next);
    for (int64_t i = 0; i < num_rows; i++)
        if (chosen[i] >= 0 && chosen[i] < num_experts - 1) next[chosen[i] + 1]++;
    for (int64_t i = 1; i < num_experts; i++) next[i] += next[i - 1];
    // What were starts become ends, which are the starts of the next.
    for (int64_t i = 0; i < num_rows; i++)
        if (chosen[i] >= 0 && chosen[i] < num_experts) e->places[next[chosen[i]]++] = i;
}

// How many tasks an expert's work makes: more than one where few experts have all tokens.
static int64_t NAME(parts_of_expert)(const NAME(Experts) *e) {
    int64_t num_active = 0, wanted = 4 * e->num_threads;
    for (int64_t i = 0; i < e->num_experts; i++) num_active += e->starts[i + 1] > e->starts[i];
    return num_active < 1 || num_active >= wanted ? 1 : (wanted + num_active - 1) / num_active;
}

// The output's columns of a task, a multiple of 16.
static int64_t NAME(columns_of_task)(const NAME(Experts) *e) {
    int64_t vectors = e->hidden_size / LANES, most = MAX_SUMS / LANES / (e->num_tokens + 1);
    int64_t share = (vectors + e->num_threads - 1) / e->num_threads;
    return LANES * (share < most ? share : most > 0 ? most : 1);
}

// The beginning of a part of `size` (a multiple of 16) things, in sixteens.
INLINE int64_t begin_of(int64_t size, int64_t part, int64_t num_parts) {
    return size / LANES * part / num_parts * LANES;
}

// out [N, D], the weighted sums. `inner` [N A, F] is room; `products` [N A, 2F], what the backward
// pass needs, or NULL.
void NAME(r1_experts)(const NAME(Experts) *e, SCALAR *out, SCALAR *inner, SCALAR *products,
                      const int64_t *chosen) {
    NAME(sort_rows)(e, chosen);
    const int64_t parts = NAME(parts_of_expert)(e), columns = NAME(columns_of_task)(e);
#pragma omp parallel num_threads(e->num_threads)
    {
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < e->num_experts * parts; task++)
            NAME(inner_values)(e, inner, products, task / parts,
                               begin_of(e->inner_size, task % parts, parts),
                               begin_of(e->inner_size, task % parts + 1, parts));
#pragma omp for schedule(dynamic, 1)
        for (int64_t first = 0; first < e->hidden_size; first += columns) {
            int64_t left = e->hidden_size - first;
            NAME(output_columns)(e, out, inner, first, first + (left < columns ? left : columns));
        }
    }
}
