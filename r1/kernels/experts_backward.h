// Gradients of experts.h. Included once for each dtype. Every sum is one task's and goes along rows
// in their order, so every run gives the same bits.

typedef struct {
    const SCALAR *out_gradient, *products;
    SCALAR *inner, *product_gradients;  // weighted [N A, F], and [N A, 2F]
    float *of_weights;                  // [N, A]
    SCALAR *of_x, *of_gate_up, *of_down;  // NULL where none is wanted
} NAME(ExpertGradients);

// Lanes are columns; of bf16 a word holds those of this row and the next.
INLINE STEP_VECTOR NAME(words_of)(const SCALAR *row, const SCALAR *next) {
#if STEP_WIDTH == 2
    uint16x words = bits_of(load_bf16(row)) >> 16 | bits_of(load_bf16(next));
    return words;
#else
    (void)next;
    return load_f32(row);
#endif
}

INLINE void NAME(add_block)(const int num_rows, const int num_vectors, float *c, int64_t c_stride,
                            const SCALAR *const *a, const SCALAR *b, int64_t b_stride, int64_t size) {
    float16 acc[8][2];
#pragma GCC unroll 8
    for (int r = 0; r < num_rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < num_vectors; v++) acc[r][v] = load_f32(c + r * c_stride + v * LANES);
    for (int64_t k = 0; k < size; k += STEP_WIDTH) {
        STEP_VECTOR lanes[2];
#pragma GCC unroll 2
        for (int v = 0; v < num_vectors; v++) {
            const SCALAR *row = b + k * b_stride + v * LANES;
            lanes[v] = NAME(words_of)(row, row + b_stride);
        }
#pragma GCC unroll 8
        for (int r = 0; r < num_rows; r++) {
            STEP word;
            memcpy(&word, a[r] + k, sizeof word);
#pragma GCC unroll 2
            for (int v = 0; v < num_vectors; v++) acc[r][v] = NAME(step)(acc[r][v], lanes[v], word);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < num_rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < num_vectors; v++) store_f32(c + r * c_stride + v * LANES, acc[r][v]);
}

// c [num_rows, num_columns] = rows of a [.., size] times b [size, num_columns]; a piece of b that
// stays in the cache at a time.
static void NAME(multiply_rows)(float *c, int64_t num_rows, int64_t num_columns, const SCALAR *const *a,
                                const SCALAR *b, int64_t b_stride, int64_t size) {
    memset(c, 0, num_rows * num_columns * sizeof *c);
    for (int64_t k = 0; k < size; k += ROWS)
        for (int64_t row = 0; row < num_rows; row += 8) {
            const int64_t num = num_rows - row < 8 ? num_rows - row : 8, left = size - k;
            const int64_t steps = left < ROWS ? left : ROWS;
            const SCALAR *from[8];
            for (int64_t r = 0; r < num; r++) from[r] = a[row + r] + k;
            for (int64_t n = 0; n < num_columns; n += 2 * LANES) {
                float *to = c + row * num_columns + n;
                const SCALAR *part = b + k * b_stride + n;
                const int is_pair = n + LANES < num_columns;
#define CASE(n)                                                                              \
    case n:                                                                                  \
        if (is_pair) NAME(add_block)(n, 2, to, num_columns, from, part, b_stride, steps);    \
        else NAME(add_block)(n, 1, to, num_columns, from, part, b_stride, steps);            \
        break;
                switch (num) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef CASE
            }
        }
}

// Of a row's weight, gate and up, from `g`, the gradient of its inner values before weighing.
static void NAME(gate_gradients)(const NAME(Experts) *e, const NAME(ExpertGradients) *to, int64_t row,
                                 const float *g) {
    const int64_t width = e->inner_size;
    const SCALAR *gate = to->products + row * 2 * width, *up = gate + width;
    SCALAR *of_gate = to->product_gradients + row * 2 * width;
    const float weight = e->weights[e->places[row]];
    float16 of_weight = broadcast(0.0f);
    for (int64_t f = 0; f < width; f += LANES) {
        float16 x = NAME(load)(gate + f), y = NAME(load)(up + f), gradient = load_f32(g + f);
        float16 sigmoid = 1.0f / one_plus_exp_of_minus(x), inner = x * sigmoid * y;
        of_weight += gradient * inner;
        gradient *= weight;
        NAME(store)(to->inner + row * width + f, inner * weight);
        NAME(store)(of_gate + f, gradient * y * sigmoid * (1.0f + x * (1.0f - sigmoid)));
        NAME(store)(of_gate + width + f, gradient * x * sigmoid);
    }
    to->of_weights[e->places[row]] = sum_lanes(of_weight);
}

static void NAME(row_gradients)(const NAME(Experts) *e, const NAME(ExpertGradients) *to, int64_t expert,
                                int64_t first, int64_t end) {
    const int64_t size = e->hidden_size, width = e->inner_size;
    float *of_inner = scratch(ROWS * width * sizeof *of_inner);
    for (int64_t row = first; row < end; row += ROWS) {
        const int64_t count = end - row < ROWS ? end - row : ROWS;
        const SCALAR *rows[ROWS];
        for (int64_t r = 0; r < count; r++)
            rows[r] = to->out_gradient + e->places[row + r] / e->num_chosen * size;
        NAME(multiply_rows)(of_inner, count, width, rows, e->down + expert * size * width, width, size);
        for (int64_t r = 0; r < count; r++) NAME(gate_gradients)(e, to, row + r, of_inner + r * width);
    }
}

// The columns `first` to `end` of the gradient of x.
static void NAME(x_gradient_columns)(const NAME(Experts) *e, const NAME(ExpertGradients) *to,
                                     int64_t first, int64_t end) {
    const int64_t size = e->hidden_size, double_width = 2 * e->inner_size, num = end - first;
    float *sums = scratch((e->num_tokens + ROWS) * num * sizeof *sums), *parts = sums + e->num_tokens * num;
    memset(sums, 0, e->num_tokens * num * sizeof *sums);
    for (int64_t expert = 0; expert < e->num_experts; expert++) {
        const SCALAR *weight = e->gate_up + expert * double_width * size + first;
        const int64_t last = e->starts[expert + 1];
        for (int64_t row = e->starts[expert]; row < last; row += ROWS) {
            const int64_t count = last - row < ROWS ? last - row : ROWS;
            const SCALAR *rows[ROWS];
            for (int64_t r = 0; r < count; r++) rows[r] = to->product_gradients + (row + r) * double_width;
            NAME(multiply_rows)(parts, count, num, rows, weight, size, double_width);
            for (int64_t r = 0; r < count; r++) {
                float *sum = sums + e->places[row + r] / e->num_chosen * num;
                for (int64_t d = 0; d < num; d++) sum[d] += parts[r * num + d];
            }
        }
    }
    for (int64_t n = 0; n < e->num_tokens; n++)
        for (int64_t d = 0; d < num; d += LANES)
            NAME(store)(to->of_x + n * size + first + d, load_f32(sums + n * num + d));
}

// Eight rows of c: eight columns of `words` times the columns from `n` on of rows of b.
INLINE void NAME(outer_block)(const int num_vectors, SCALAR *c, int64_t num_columns, const STEP *words,
                              int64_t word_stride, const SCALAR *const *b, int64_t n, int64_t num_words) {
    float16 acc[8][2];
#pragma GCC unroll 8
    for (int m = 0; m < 8; m++)
#pragma GCC unroll 2
        for (int v = 0; v < num_vectors; v++) acc[m][v] = broadcast(0.0f);
    for (int64_t w = 0; w < num_words; w++) {
        const SCALAR *row = b[w * STEP_WIDTH] + n, *next = b[(w + 1) * STEP_WIDTH - 1] + n;
        STEP_VECTOR lanes[2];
#pragma GCC unroll 2
        for (int v = 0; v < num_vectors; v++)
            lanes[v] = NAME(words_of)(row + v * LANES, next + v * LANES);
#pragma GCC unroll 8
        for (int m = 0; m < 8; m++)
#pragma GCC unroll 2
            for (int v = 0; v < num_vectors; v++)
                acc[m][v] = NAME(step)(acc[m][v], lanes[v], words[w * word_stride + m]);
    }
#pragma GCC unroll 8
    for (int m = 0; m < 8; m++)
#pragma GCC unroll 2
        for (int v = 0; v < num_vectors; v++)
            NAME(store)(c + m * num_columns + n + v * LANES, acc[m][v]);
}

// Rows `first` to `end` of c [.., num_columns]: the sum over rows of a's column times b's row. Of
// bf16 `b` has a row more where their number is odd, which meets zeros.
static void NAME(multiply_outer)(SCALAR *c, int64_t first, int64_t end, int64_t num_columns,
                                 const SCALAR *const *a, const SCALAR *const *b, int64_t num_rows,
                                 STEP *words) {
    const int64_t num_words = (num_rows + STEP_WIDTH - 1) / STEP_WIDTH, width = end - first;
    for (int64_t w = 0; w < num_words; w++)
        for (int64_t m = 0; m < width; m++) {
            SCALAR pair[STEP_WIDTH] = {0};
            for (int i = 0; i < STEP_WIDTH && w * STEP_WIDTH + i < num_rows; i++)
                pair[i] = a[w * STEP_WIDTH + i][first + m];
            memcpy(words + w * width + m, pair, sizeof pair);
        }
    for (int64_t m = 0; m < width; m += 8) {
        SCALAR *to = c + (first + m) * num_columns;
        int64_t n = 0;
        for (; n + 2 * LANES <= num_columns; n += 2 * LANES)
            NAME(outer_block)(2, to, num_columns, words + m, width, b, n, num_words);
        if (n < num_columns) NAME(outer_block)(1, to, num_columns, words + m, width, b, n, num_words);
    }
}

// A part of the rows of an expert's weights' gradients.
static void NAME(weight_gradients)(const NAME(Experts) *e, const NAME(ExpertGradients) *to, int64_t expert,
                                   int64_t part, int64_t num_parts) {
    const int64_t size = e->hidden_size, width = e->inner_size, start = e->starts[expert];
    const int64_t num_rows = e->starts[expert + 1] - start, widest = size > 2 * width ? size : 2 * width;
    const SCALAR **x = scratch(4 * (num_rows + 1) * sizeof *x + (num_rows + 1) * widest * sizeof(STEP));
    const SCALAR **inner = x + num_rows + 1, **of_out = inner + num_rows + 1, **of_products = of_out + num_rows + 1;
    STEP *words = (STEP *)(of_products + num_rows + 1);
    for (int64_t r = 0; r <= num_rows && num_rows; r++) {
        const int64_t row = start + (r < num_rows ? r : num_rows - 1), token = e->places[row] / e->num_chosen;
        x[r] = e->x + token * size;
        inner[r] = to->inner + row * width;
        of_out[r] = to->out_gradient + token * size;
        of_products[r] = to->product_gradients + row * 2 * width;
    }
    NAME(multiply_outer)(to->of_down + expert * size * width, begin_of(size, part, num_parts),
                         begin_of(size, part + 1, num_parts), width, of_out, inner, num_rows, words);
    NAME(multiply_outer)(to->of_gate_up + expert * 2 * width * size, begin_of(2 * width, part, num_parts),
                         begin_of(2 * width, part + 1, num_parts), size, of_products, x, num_rows, words);
}

// After r1_experts, with the same `e`.
void NAME(r1_experts_backward)(const NAME(Experts) *e, const NAME(ExpertGradients) *to) {
    const int64_t parts = NAME(parts_of_expert)(e), columns = NAME(columns_of_task)(e);
#pragma omp parallel num_threads(e->num_threads)
    {
#pragma omp for schedule(dynamic, 1)
        for (int64_t task = 0; task < e->num_experts * parts; task++) {
            const int64_t expert = task / parts, part = task % parts, start = e->starts[expert];
            const int64_t num_rows = e->starts[expert + 1] - start;
            NAME(row_gradients)(e, to, expert, start + num_rows * part / parts, start + num_rows * (part + 1) / parts);
        }
        if (to->of_down)
#pragma omp for schedule(dynamic, 1) nowait
            for (int64_t task = 0; task < e->num_experts * parts; task++)
                NAME(weight_gradients)(e, to, task / parts, task % parts, parts);
        if (to->of_x)
#pragma omp for schedule(dynamic, 1)
            for (int64_t first = 0; first < e->hidden_size; first += columns) {
                int64_t left = e->hidden_size - first;
                NAME(x_gradient_columns)(e, to, first, first + (left < columns ? left : columns));
            }
    }
}
#undef ROWS
#undef MAX_SUMS
