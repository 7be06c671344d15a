// Products of rows with up to three weights, as units of work for the members of a team.
// Once for each dtype.

typedef struct {
    SCALAR *out;              // [M, n0 + n1 + n2]; gated [M, n0]
    const SCALAR *x;          // [M, I]
    const void *weights[3];   // [O, I]; in 8 or 4 bits as quantized.h has them
    const SCALAR *biases[3];  // or NULL
    int64_t sizes[3];
    int64_t num_rows, num_inputs, bits, is_gated, max_dot_rows;
    int64_t rounds_gate;      // see linear.h
    void *prepared;           // what `prepare_rows` makes of x
    // Chosen by `plan_product`.
    int64_t is_large, is_prepared, block, num_groups, num_blocks[3], num_units;
} NAME(Product);

INLINE int64_t NAME(num_tiles)(const NAME(Product) *product) {
    return (product->num_rows + LANES - 1) / LANES;
}

// How to share the product out; returns the size of `prepared`.
static int64_t NAME(plan_product)(NAME(Product) *product) {
    const int64_t num_tiles = NAME(num_tiles)(product), size = product->num_inputs;
    const int is_dot = !product->bits && product->num_rows <= product->max_dot_rows &&
                       size / STEP_WIDTH % LANES == 0;
    product->is_large = product->is_prepared = 0;
#ifdef HAS_LARGE_LINEAR
    product->is_large = !product->bits && product->num_rows >= MIN_LARGE_ROWS;
#endif
    product->is_prepared = !is_dot && !product->is_large;
    // Large batches reuse a block of weights from cache.
    product->block = is_dot ? 8 : product->bits || num_tiles <= 3 ? 16 : 64;
    product->num_groups = product->bits ? 1 : (num_tiles + 2) / 3;
#ifdef HAS_LARGE_LINEAR
    if (product->is_large) {
        product->block = product->is_gated ? PANEL / 2 : PANEL;
        product->num_groups = (product->num_rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    }
#endif
    product->num_units = 0;
    for (int i = 0; i < 3; i++) {
        const int64_t num_outputs = product->is_gated && i == 1 ? 0 : product->sizes[i];
        product->num_blocks[i] = (num_outputs + product->block - 1) / product->block;
        product->num_units += product->num_blocks[i] * product->num_groups;
    }
    if (product->bits) return product->num_rows * size / GROUP * (GROUP + 2 * sizeof(float));
    return !product->is_prepared ? 0 : num_tiles * LANES * size * sizeof(SCALAR);
}

// The rows of one tile in the form that is multiplied.
static void NAME(prepare_rows)(const NAME(Product) *product, int64_t tile) {
    const int64_t size = product->num_inputs, first = tile * LANES;
    const int64_t left = product->num_rows - first;
    const SCALAR *x = product->x + first * size;
    if (!product->bits) {
        turn_rows((uint32_t *)((SCALAR *)product->prepared + first * size), LANES,
                  (const uint32_t *)x, left, size / STEP_WIDTH);
        return;
    }
    QuantizedRows rows = quantized_rows_at(product->prepared, product->num_rows, size);
    for (int64_t row = 0; row < left && row < LANES; row++)
        NAME(quantize_row)(x + row * size, size, &rows, first + row);
}

// Bytes of one output's weights.
INLINE int64_t NAME(row_bytes)(const NAME(Product) *product) {
    if (product->bits) return product->num_inputs / GROUP * GROUP_BYTES(product->bits) / LANES;
    return product->num_inputs * sizeof(SCALAR);
}

// Where a unit's outputs are to go; returns its weight, and its first output there in `column`.
static int NAME(find_unit)(const NAME(Product) *product, int64_t unit, NAME(Target) *target,
                           int64_t *column) {
    const int64_t *sizes = product->sizes;
    int64_t index = unit / product->num_groups;
    int which = 0;
    target->out = product->out;
    while (index >= product->num_blocks[which]) {
        target->out += sizes[which];
        index -= product->num_blocks[which++];
    }
    target->bias = product->biases[which];
    target->stride = sizes[0] + (product->is_gated ? 0 : sizes[1]) + sizes[2];
    target->num_rows = product->num_rows;
    target->num_outputs = sizes[which];
    target->rounds_gate = product->rounds_gate;
    *column = index * product->block;
    return which;
}

// What a unit reads: its weights, and those that gate them or lie behind them.
static void NAME(look_ahead)(const NAME(Product) *product, int64_t unit, const void *ahead[2]) {
    const int64_t size = NAME(row_bytes)(product), last = product->num_units - 1;
    NAME(Target) target;
    int64_t column;
    int which = NAME(find_unit)(product, unit < last ? unit : last, &target, &column);
    ahead[0] = (const char *)product->weights[which] + column * size;
    ahead[1] = product->is_gated ? (const char *)product->weights[1] + column * size
                                 : (const char *)ahead[0] + product->block * size;
}

static void NAME(multiply_unit)(const NAME(Product) *product, int64_t unit,
                                const void *const ahead[2]) {
    const int64_t size = product->num_inputs, steps = size / STEP_WIDTH;
    NAME(Target) target;
    int64_t column;
    const int which = NAME(find_unit)(product, unit, &target, &column);
    const void *weights = product->weights[which], *ups = product->is_gated ? product->weights[1] : NULL;
    if (product->bits) {
        QuantizedRows rows = quantized_rows_at(product->prepared, product->num_rows, size);
        NAME(quantized_outputs)(&target, &rows, product->bits, size / GROUP, column, weights, ups, ahead);
        return;
    }
    const STEP *weight = weights, *up = ups;
    if (!product->is_prepared) {
        NAME(dot_rows)(&target, product->x, size, column, weight, up, ahead);
        return;
    }
    // Up to three tiles each, spread evenly: four are two and two.
    const int64_t num_tiles = NAME(num_tiles)(product), group = unit % product->num_groups;
    const int64_t first = group * num_tiles / product->num_groups;
    const int64_t count = (group + 1) * num_tiles / product->num_groups - first;
    const int64_t end = column + product->block, row = first * LANES;
    const STEP *tiles = (const STEP *)product->prepared + first * steps * LANES;
    for (int64_t n = column; n < end && n < target.num_outputs; n += count == 1 ? 16 : 8)
        if (count == 1) NAME(linear_block)(1, 16, &target, tiles, steps, row, n, weight, up);
        else if (count == 2) NAME(linear_block)(2, 8, &target, tiles, steps, row, n, weight, up);
        else NAME(linear_block)(3, 8, &target, tiles, steps, row, n, weight, up);
}

#ifdef HAS_LARGE_LINEAR
// A phase of a product of many rows: neighbouring units have a panel in common.
static void multiply_all_large(Member *member, const Product_bf16 *product) {
    const int64_t steps = product->num_inputs / STEP_WIDTH, num_blocks = product->num_groups;
    // Even blocks, of whole strips.
    const int64_t strips = (product->num_rows + num_blocks * STRIP_ROWS - 1) / (num_blocks * STRIP_ROWS);
    const int64_t size = strips * STRIP_ROWS;
    uint32_t *panel = panel_of(steps);
    int64_t turned = -1;
    for (int64_t unit; (unit = next_unit(member, product->num_units)) >= 0;) {
        Target_bf16 target;
        int64_t column;
        const int which = find_unit_bf16(product, unit, &target, &column);
        if (turned != unit / num_blocks)
            turn_panel(panel, &target, column, product->weights[which],
                       product->is_gated ? product->weights[1] : NULL, steps);
        turned = unit / num_blocks;
        const int64_t row = unit % num_blocks * size, end = row + size;
        multiply_block(&target, (const uint32_t *)product->x, steps, panel, column, row,
                       end < product->num_rows ? end : product->num_rows, product->is_gated);
    }
}
#endif

// A phase: all units, as far as others do not take them. Weights that lie one after another are
// fetched ahead, at the end of a member's share those that it reads of `next`.
static void NAME(multiply_all)(Member *member, const NAME(Product) *product, const NAME(Product) *next) {
#ifdef HAS_LARGE_LINEAR
    if (product->is_large) {
        multiply_all_large(member, product);
        return;
    }
#endif
    const int64_t last = share_begin(member, member->id + 1, product->num_units) - 1;
    for (int64_t unit; (unit = next_unit(member, product->num_units)) >= 0;) {
        const void *ahead[2];
        if (unit == last)
            NAME(look_ahead)(next, share_begin(member, member->id, next->num_units), ahead);
        else NAME(look_ahead)(product, unit + 1, ahead);
        NAME(multiply_unit)(product, unit, ahead);
    }
}

// Up to three weights side by side (out [M, n0 + n1 + n2]); with `is_gated` silu(x W0) * (x W1).
// `bits`: 0 for weights in the dtype of x.
void NAME(r1_linear)(SCALAR *out, const SCALAR *x, int64_t num_rows, int64_t num_inputs,
                     const void *w0, const void *w1, const void *w2, int64_t n0, int64_t n1,
                     int64_t n2, const SCALAR *b0, const SCALAR *b1, const SCALAR *b2,
                     int64_t is_gated, int64_t bits, int64_t max_dot_rows, int64_t num_threads) {
    NAME(Product) product = {out, x, {w0, w1, w2}, {b0, b1, b2}, {n0, n1, n2},
                             num_rows, num_inputs, bits, is_gated, max_dot_rows, 0};
    product.prepared = scratch(NAME(plan_product)(&product));
    Team team;
    num_threads = form_team(&team, num_threads);
#pragma omp parallel num_threads(num_threads)
    {
        Member member = join_team(&team);
        if (product.is_prepared) {
            const int64_t num_tiles = NAME(num_tiles)(&product);
            for (int64_t tile; (tile = next_unit(&member, num_tiles)) >= 0;)
                NAME(prepare_rows)(&product, tile);
            meet(&member);
        }
        NAME(multiply_all)(&member, &product, &product);
    }
}
