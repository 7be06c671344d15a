// y = x W^T for many x, with a CPU's own products of bf16 pairs. Lanes are outputs: a member of the
// team turns a panel of weights over in its core's cache, and broadcasts pairs of inputs to all lanes.
//
// Registers hold 6 rows of x times 4 vectors of weights, a core's second cache a block of rows and
// a panel (Goto & van de Geijn 2008, doi:10.1145/1356052.1356053). An output is the chain of
// additions that linear.h makes of tiles: the same bits.

#if DTYPE_BITS == 16 && defined(__AVX512BF16__)
#define HAS_LARGE_LINEAR
// Rows from which turning the weights over pays.
#define MIN_LARGE_ROWS 768
#define STRIP_ROWS 6
#define STRIP_VECTORS 4
// Columns of turned weights: an output each, or half of them of what gates.
#define PANEL (STRIP_VECTORS * LANES)
// Rows and pairs of inputs that a core multiplies with one panel at a time.
#define BLOCK_ROWS (21 * STRIP_ROWS)
#define BLOCK_STEPS 768

// To [steps][PANEL], from output `column` on.
static void turn_panel(uint32_t *to, const Target_bf16 *target, int64_t column,
                       const uint32_t *weight, const uint32_t *up, int64_t steps) {
    const int num_vectors = up ? STRIP_VECTORS / 2 : STRIP_VECTORS;
    const int64_t last = target->num_outputs - 1;
    for (int v = 0; v < STRIP_VECTORS; v++) {
        int64_t row = column + v % num_vectors * LANES;
        if (row > last) row = last;
        turn_rows(to + v * LANES, PANEL, (v < num_vectors ? weight : up) + row * steps,
                  last + 1 - row, steps);
    }
}

INLINE void multiply_strip(float16 acc[][STRIP_VECTORS], const uint32_t *x, int64_t stride,
                           const uint32_t *weights, int64_t steps, int is_first) {
    float16 sums[STRIP_ROWS][STRIP_VECTORS];  // in registers, unlike `acc`
#pragma GCC unroll 6
    for (int r = 0; r < STRIP_ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < STRIP_VECTORS; v++) sums[r][v] = is_first ? broadcast(0.0f) : acc[r][v];
#pragma GCC unroll 2
    for (int64_t k = 0; k < steps; k++) {
        uint16x lanes[STRIP_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < STRIP_VECTORS; v++) lanes[v] = load_steps_bf16(weights + k * PANEL + v * LANES);
#pragma GCC unroll 6
        for (int r = 0; r < STRIP_ROWS; r++)
#pragma GCC unroll 4
            for (int v = 0; v < STRIP_VECTORS; v++) sums[r][v] = step_bf16(sums[r][v], lanes[v], x[r * stride + k]);
    }
#pragma GCC unroll 6
    for (int r = 0; r < STRIP_ROWS; r++)
#pragma GCC unroll 4
        for (int v = 0; v < STRIP_VECTORS; v++) acc[r][v] = sums[r][v];
}

// The first `count` of sixteen outputs of a row.
INLINE void put_outputs(bf16 *out, float16 values, const bf16 *bias, int64_t count) {
    bf16 part[LANES] = {0};
    if (count >= LANES) {
        store_bf16(out, bias ? values + load_bf16(bias) : values);
        return;
    }
    if (bias) memcpy(part, bias, count * sizeof *part);
    store_bf16(part, bias ? values + load_bf16(part) : values);
    memcpy(out, part, count * sizeof *part);
}

// Rows row + first and on of a strip.
static void put_strip(const Target_bf16 *target, int64_t row, int64_t first, int64_t column,
                      float16 acc[][STRIP_VECTORS], int is_gated) {
    const int num_vectors = is_gated ? STRIP_VECTORS / 2 : STRIP_VECTORS;
    for (int64_t r = first; r < STRIP_ROWS; r++)
        for (int v = 0; v < num_vectors && column + v * LANES < target->num_outputs; v++) {
            const int64_t n = column + v * LANES;
            float16 value = acc[r][v];
            if (is_gated) value = gated_bf16(target, value, acc[r][v + STRIP_VECTORS / 2]);
            put_outputs(target->out + (row + r) * target->stride + n, value,
                        target->bias ? target->bias + n : NULL, target->num_outputs - n);
        }
}

// Rows begin..end, at most BLOCK_ROWS, with one panel.
static void multiply_block(const Target_bf16 *target, const uint32_t *x, int64_t steps,
                           const uint32_t *panel, int64_t column, int64_t begin, int64_t end,
                           int is_gated) {
    float16 acc[BLOCK_ROWS / STRIP_ROWS][STRIP_ROWS][STRIP_VECTORS];
    const int64_t last = target->num_rows - STRIP_ROWS, width = is_gated ? PANEL / 2 : PANEL;
    for (int64_t k = 0; k < steps; k += BLOCK_STEPS) {
        const int64_t left = steps - k, count = left < BLOCK_STEPS ? left : BLOCK_STEPS;
        for (int64_t row = begin; row < end; row += STRIP_ROWS) {
            // The last strip begins with rows that are written already.
            const int64_t from = row < last ? row : last;
            float16(*sums)[STRIP_VECTORS] = acc[steps > BLOCK_STEPS ? (row - begin) / STRIP_ROWS : 0];
            for (int64_t r = row; r < from + STRIP_ROWS; r++)
                for (int64_t n = column; n < column + width; n += 2 * LANES)
                    __builtin_prefetch(target->out + r * target->stride + n, 1);
            multiply_strip(sums, x + from * steps + k, steps, panel + k * PANEL, count, k == 0);
            if (count == left) put_strip(target, from, row - from, column, sums, is_gated);
        }
    }
}

// Room for the member's panel.
static uint32_t *panel_of(int64_t steps) {
    static _Thread_local Buffer buffer;
    return fit(&buffer, steps * PANEL * sizeof(uint32_t));
}
#endif
