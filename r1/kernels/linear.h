// y = x W^T for up to some hundred x, W as checkpoints store it. Included once for each dtype.
//
// Lanes are rows of x: x is transposed in 16-row tiles, a weight is broadcast to all lanes and
// read once. Every output is one chain of additions over k, whatever M is and whatever else is
// computed, so a row's result does not depend on its batch. Up to `max_dot_rows` rows are
// multiplied otherwise, faster; exact mode asks for none.

#define TILE_ROWS 8

// acc[v][r] += x tile v . weight row r
INLINE void NAME(multiply_tile)(const int num_x, const int num_w, float16 acc[][16],
                                const STEP *x, const STEP *const *w, int64_t steps) {
#pragma GCC unroll 4
    for (int v = 0; v < num_x; v++)
#pragma GCC unroll 16
        for (int r = 0; r < num_w; r++) acc[v][r] = broadcast(0.0f);
    for (int64_t k = 0; k < steps; k++) {
        STEP_VECTOR lanes[4];
        // The block after this one lies behind it: rows follow each other in memory.
        if (k % LANES == 0)
#pragma GCC unroll 16
            for (int r = 0; r < num_w; r++) __builtin_prefetch(w[r] + num_w * steps + k);
#pragma GCC unroll 4
        for (int v = 0; v < num_x; v++) lanes[v] = NAME(load_steps)(x + (v * steps + k) * LANES);
#pragma GCC unroll 16
        for (int r = 0; r < num_w; r++)
#pragma GCC unroll 4
            for (int v = 0; v < num_x; v++) acc[v][r] = NAME(step)(acc[v][r], lanes[v], w[r][k]);
    }
}

typedef struct {
    SCALAR *out;
    const SCALAR *bias;
    int64_t stride, num_rows, num_outputs, rounds_gate;
} NAME(Target);

// silu(gate) * up; with `rounds_gate` of the rounded products, as if they had been stored before.
INLINE float16 NAME(gated)(const NAME(Target) *target, float16 gate, float16 up) {
    if (target->rounds_gate) {
        gate = NAME(rounded)(gate);
        up = NAME(rounded)(up);
    }
    return gate / one_plus_exp_of_minus(gate) * up;
}

// Write a tile of 16 rows x 8 outputs from (row, column) on; `up` is multiplied to silu(acc).
INLINE void NAME(write_tile)(const NAME(Target) *target, int64_t row, int64_t column,
                             const float16 *acc, const float16 *up) {
    const int64_t left = target->num_rows - row, width = target->num_outputs - column;
    const int num_rows = left < LANES ? (int)left : LANES, num_columns = width < 8 ? (int)width : 8;
    SCALAR *out = target->out + row * target->stride + column;
    float16 values[8];
    for (int r = 0; r < 8; r++) {
        values[r] = up ? NAME(gated)(target, acc[r], up[r]) : acc[r];
        if (target->bias && r < num_columns)
            values[r] += broadcast(NAME(to_float)(target->bias[column + r]));
    }
    if (num_rows == LANES && num_columns == 8) {
        NAME(store_turned)(out, target->stride, values);
        return;
    }
    SCALAR rows[LANES][8];
    NAME(store_turned)(rows[0], 8, values);
    for (int m = 0; m < num_rows; m++)
        memcpy(out + m * target->stride, rows[m], num_columns * sizeof *out);
}

// The products of up to three row tiles with `num_w` (8 or 16) weight rows from `column` on.
INLINE void NAME(linear_block)(const int num_x, const int num_w, const NAME(Target) *target,
                               const STEP *x, int64_t steps, int64_t row, int64_t column,
                               const STEP *weight, const STEP *up) {
    float16 acc[3][16], up_acc[3][16];
    const STEP *rows[16];
    for (int r = 0; r < num_w; r++) {
        int64_t n = column + r < target->num_outputs ? column + r : target->num_outputs - 1;
        rows[r] = weight + n * steps;
    }
    NAME(multiply_tile)(num_x, num_w, acc, x, rows, steps);
    if (up) {
        for (int r = 0; r < num_w; r++) rows[r] = up + (rows[r] - weight);
        NAME(multiply_tile)(num_x, num_w, up_acc, x, rows, steps);
    }
    for (int v = 0; v < num_x; v++)
        for (int r = 0; r < num_w; r += TILE_ROWS)
            if (row + v * LANES < target->num_rows && column + r < target->num_outputs)
                NAME(write_tile)(target, row + v * LANES, column + r, acc[v] + r,
                                 up ? up_acc[v] + r : NULL);
}

// One or two rows of x with 8 weight rows, lanes being inputs: fewer instructions than the tiles
// for few rows, but other additions. As much from `ahead` on is fetched.
INLINE void NAME(dot_block)(const int num_x, const STEP *x, int64_t steps, const STEP *const *rows,
                            const STEP *ahead, float16 *out) {
    float16 acc[2][8];
#pragma GCC unroll 2
    for (int v = 0; v < num_x; v++)
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) acc[v][r] = broadcast(0.0f);
    for (int64_t k = 0; k < steps; k += LANES) {
        STEP_VECTOR lanes[2];
#pragma GCC unroll 2
        for (int v = 0; v < num_x; v++) lanes[v] = NAME(load_steps)(x + v * steps + k);
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) {
            __builtin_prefetch(ahead + r * steps + k);
            STEP_VECTOR weight = NAME(load_steps)(rows[r] + k);
#pragma GCC unroll 2
            for (int v = 0; v < num_x; v++) acc[v][r] = NAME(step_lanes)(acc[v][r], lanes[v], weight);
        }
    }
#pragma GCC unroll 2
    for (int v = 0; v < num_x; v++) {
        float16 parts[8], sum = broadcast(0.0f);
        transpose_eight(acc[v], parts);
        for (int j = 0; j < 8; j++) sum += parts[j];
        out[v] = sum + __builtin_shufflevector(sum, sum, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    }
}

// Write 8 outputs of all rows from `column` on. `ahead`: what is read next of both weights.
static void NAME(dot_rows)(const NAME(Target) *target, const SCALAR *x, int64_t num_inputs,
                           int64_t column, const STEP *weight, const STEP *up,
                           const void *const ahead[2]) {
    const int64_t steps = num_inputs / STEP_WIDTH, width = target->num_outputs - column;
    const STEP *rows[8], *ups[8];
    for (int r = 0; r < 8; r++) {
        rows[r] = weight + (r < width ? column + r : target->num_outputs - 1) * steps;
        ups[r] = up ? up + (rows[r] - weight) : NULL;
    }
    for (int64_t m = 0; m < target->num_rows; m += 2) {
        const STEP *from = (const STEP *)(x + m * num_inputs);
        float16 sums[2], gates[2];
        int count = target->num_rows - m < 2 ? 1 : 2;
        if (count == 1) NAME(dot_block)(1, from, steps, rows, ahead[0], sums);
        else NAME(dot_block)(2, from, steps, rows, ahead[0], sums);
        if (up && count == 1) NAME(dot_block)(1, from, steps, ups, ahead[1], gates);
        if (up && count == 2) NAME(dot_block)(2, from, steps, ups, ahead[1], gates);
        for (int v = 0; v < count; v++) {
            float16 value = up ? NAME(gated)(target, sums[v], gates[v]) : sums[v];
            float y[LANES];
            store_f32(y, value);
            int num_columns = width < 8 ? (int)width : 8;
            for (int i = 0; target->bias && i < num_columns; i++)
                y[i] += NAME(to_float)(target->bias[column + i]);
            NAME(store8)(target->out + (m + v) * target->stride + column, y, num_columns);
        }
    }
}
