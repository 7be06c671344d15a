// All layers of Llama or Qwen2 and the final norm on packed tokens, in one call and one parallel
// region: at few tokens, returning to Python between a layer's parts, or ending a region for each,
// takes as long as computing them. The same additions in the same order as part by part, so the
// same bits. Once for each dtype.

#ifndef LAYERS_ONCE
#define LAYERS_ONCE
// Rows of which every member computes norms and what is multiplied for itself, instead of waiting
// for the others' part.
#define MAX_OWN_ROWS 4

typedef struct {
    int64_t num_layers, hidden_size, num_heads, num_groups, head_dim, inner_size, bits;
    int64_t num_tokens, num_wanted, max_dot_rows, tiles_per_block, num_phases, num_states;
    int64_t rounds_gate, num_threads;
} LayersShape;
#endif

// Weights as checkpoints have them, or in `bits`, and biases or NULL.
typedef struct {
    const SCALAR *input_norm;
    const void *query, *key, *value;
    const SCALAR *query_bias, *key_bias, *value_bias;
    const void *output;
    const SCALAR *output_bias, *mlp_norm;
    const void *gate, *up, *down;
} NAME(Layer);

// What one step computes, and its memory: a member's own (alike for all of many rows) and shared.
typedef struct {
    const NAME(Layer) *layers;
    SCALAR *const *tiles;
    const LayersShape *shape;
    const SCALAR *final_norm, *cosines, *sines;
    const int64_t *slots, *wanted;
    SCALAR *hidden, *out;
    float eps;
    int64_t is_alone;
    char *own;
    int64_t own_size, prepared_size;
    SCALAR *projected, *query, *mixed, *part, *inner;
    NAME(StepAttention) attention;
} NAME(Step);

typedef struct {
    SCALAR *hidden, *normed;
    void *prepared;
} NAME(Own);

static NAME(Own) NAME(own_of)(const NAME(Step) *step, const Member *member) {
    const int64_t size = step->shape->num_tokens * step->shape->hidden_size;
    char *prepared = step->own + (step->is_alone ? member->id * step->own_size : 0);
    SCALAR *normed = (SCALAR *)(prepared + step->prepared_size);
    return (NAME(Own)){step->is_alone ? normed + size : step->hidden, normed, prepared};
}

// hidden += part of a tile's tokens, then their norm.
static void NAME(norm_rows)(const NAME(Step) *step, const NAME(Own) *own, const SCALAR *part,
                            const SCALAR *norm, SCALAR *to, int64_t tile) {
    const int64_t size = step->shape->hidden_size, num_tokens = step->shape->num_tokens;
    for (int64_t row = tile * LANES; row < num_tokens && row < (tile + 1) * LANES; row++) {
        SCALAR *hidden = own->hidden + row * size;
        const SCALAR *x = part ? part + row * size : NULL;
        int64_t i = 0;
        for (; x && i + LANES <= size; i += LANES)
            NAME(store)(hidden + i, NAME(load)(hidden + i) + NAME(load)(x + i));
        for (; x && i < size; i++)
            hidden[i] = NAME(from_float)(NAME(to_float)(hidden[i]) + NAME(to_float)(x[i]));
        NAME(norm_row)(to + row * size, hidden, norm, size, step->eps);
    }
}

// A layer's four products: of queries, keys and values; of the heads' outputs; of the MLP's two.
static NAME(Product) NAME(product_at)(const NAME(Step) *step, int64_t index) {
    const LayersShape *shape = step->shape;
    const NAME(Layer) *at = step->layers + index / 4;
    const int64_t size = shape->hidden_size, query_size = shape->num_heads * shape->head_dim;
    const int64_t key_size = shape->num_groups * shape->head_dim, inner = shape->inner_size;
    NAME(Product) products[] = {
        {step->projected, NULL, {at->query, at->key, at->value},
         {at->query_bias, at->key_bias, at->value_bias}, {query_size, key_size, key_size},
         .num_inputs = size},
        {step->part, step->mixed, {at->output}, {at->output_bias}, {size}, .num_inputs = query_size},
        {step->inner, NULL, {at->gate, at->up}, {NULL}, {inner, inner}, .num_inputs = size,
         .is_gated = 1},
        {step->part, step->inner, {at->down}, {NULL}, {size}, .num_inputs = inner},
    };
    NAME(Product) product = products[index % 4];
    product.num_rows = shape->num_tokens;
    product.bits = shape->bits;
    product.max_dot_rows = shape->max_dot_rows;
    product.rounds_gate = shape->rounds_gate;
    NAME(plan_product)(&product);
    return product;
}

// Everything before a product's own phase: the residual, the norm, and the form to multiply.
static void NAME(enter_product)(Member *member, const NAME(Step) *step, int64_t index,
                                NAME(Product) *product) {
    const NAME(Own) own = NAME(own_of)(step, member);
    const NAME(Layer) *layer = step->layers + index / 4;
    const SCALAR *norm = index % 4 == 0 ? layer->input_norm : index % 4 == 2 ? layer->mlp_norm : NULL;
    const SCALAR *part = index ? step->part : NULL;
    const int64_t num_tiles = NAME(num_tiles)(product);
    const int is_alone = (int)step->is_alone;
    if (norm) product->x = own.normed;
    product->prepared = own.prepared;
    if (!norm && !product->is_prepared) return;
    for (int64_t tile = is_alone ? 0 : next_unit(member, num_tiles); tile >= 0;
         tile = is_alone ? -1 : next_unit(member, num_tiles)) {
        if (norm) NAME(norm_rows)(step, &own, part, norm, own.normed, tile);
        if (product->is_prepared) NAME(prepare_rows)(product, tile);
    }
    if (!is_alone) meet(member);
}

// Rotated queries, the cache with the step's keys and values, and then the attention.
static void NAME(attend_layer)(Member *member, const NAME(Step) *step, SCALAR *tiles) {
    const LayersShape *shape = step->shape;
    const int64_t dim = shape->head_dim, groups = shape->num_groups, heads = shape->num_heads;
    const int64_t ratio = heads / groups, num_units = shape->num_tokens * groups;
    for (int64_t unit; (unit = next_unit(member, num_units)) >= 0;) {
        const int64_t n = unit / groups, group = unit % groups;
        const SCALAR *row = step->projected + n * (heads + 2 * groups) * dim;
        const SCALAR *c = step->cosines + n * dim, *s = step->sines + n * dim;
        SCALAR key[MAX_HEAD_DIM];
        for (int64_t head = group * ratio; head < (group + 1) * ratio; head++)
            NAME(rotate_head)(step->query + (n * heads + head) * dim, row + head * dim, c, s, dim);
        row += (heads + group) * dim;
        NAME(rotate_head)(key, row, c, s, dim);
        NAME(write_head)(tiles, key, row + groups * dim, step->slots[n], group, groups, dim);
    }
    meet(member);
    NAME(StepAttention) attention = step->attention;
    attention.tiles = tiles;
    NAME(attend)(member, &attention);
}

// Behind the last layer's attention only the rows that somebody wants go on.
static void NAME(keep_wanted)(const NAME(Step) *step) {
    const LayersShape *shape = step->shape;
    const int64_t size = shape->hidden_size, mixed_size = shape->num_heads * shape->head_dim;
    for (int64_t row = 0; row < shape->num_wanted; row++) {
        const int64_t from = step->wanted[row];
        memmove(step->hidden + row * size, step->hidden + from * size, size * sizeof(SCALAR));
        memmove(step->mixed + row * mixed_size, step->mixed + from * mixed_size,
                mixed_size * sizeof(SCALAR));
    }
}

// `rest` is the step after `keep_wanted`.
static void NAME(run_layers)(Member *member, const NAME(Step) *step, const NAME(Step) *rest) {
    const LayersShape *shape = step->shape;
    const int64_t num_products = 4 * shape->num_layers;
    const int64_t size = shape->num_tokens * shape->hidden_size;
    const NAME(Own) own = NAME(own_of)(step, member);
    if (step->is_alone) memcpy(own.hidden, step->hidden, size * sizeof(SCALAR));
    NAME(Product) product, next = NAME(product_at)(step, 0);
    for (int64_t index = 0; index < num_products; index++) {
        product = next;
        if (index + 1 < num_products) next = NAME(product_at)(step, index + 1);
        NAME(enter_product)(member, step, index, &product);
        NAME(multiply_all)(member, &product, &next);
        meet(member);
        if (index % 4 == 0) NAME(attend_layer)(member, step, step->tiles[index / 4]);
        if (index != num_products - 4 || shape->num_wanted == shape->num_tokens) continue;
        if (!shape->num_wanted) return;
        if (member->id == 0) NAME(keep_wanted)(step);
        meet(member);
        step = rest;
        next = NAME(product_at)(step, index + 1);
    }
    const int64_t num_rows = step->shape->num_tokens, width = step->shape->hidden_size;
    for (int64_t tile; (tile = next_unit(member, (num_rows + LANES - 1) / LANES)) >= 0;) {
        NAME(norm_rows)(step, &own, step->part, step->final_norm, own.normed, tile);
        for (int64_t row = tile * LANES; row < num_rows && row < (tile + 1) * LANES; row++)
            memcpy(step->out + step->wanted[row] * width, own.normed + row * width,
                   width * sizeof(SCALAR));
    }
}

// Rows `wanted` (ascending) of `out` [N, D] of `hidden` [N, D], which is overwritten. The rest as
// r1_rotate, r1_write_cache and r1_attend have it.
void NAME(r1_layers)(SCALAR *out, SCALAR *hidden, const NAME(Layer) *layers, SCALAR *const *tiles,
                     const SCALAR *final_norm, const LayersShape *shape, const SCALAR *cosines,
                     const SCALAR *sines, const int64_t *slots, const int64_t *tables,
                     const int64_t *items, const int64_t *phases, const int64_t *limits,
                     const int64_t *wanted, float eps, float scale) {
    const int64_t rows = shape->num_tokens, query_size = rows * shape->num_heads * shape->head_dim;
    const int64_t width = query_size + 2 * rows * shape->num_groups * shape->head_dim;
    const int64_t size = rows * shape->hidden_size, inner_size = rows * shape->inner_size;
    // Fewer rows are multiplied as all are: with the same bits.
    LayersShape rest_shape = *shape;
    rest_shape.num_tokens = shape->num_wanted;
    rest_shape.max_dot_rows = rows <= shape->max_dot_rows ? rows : 0;
    NAME(Step) step = {layers, tiles, shape, final_norm, cosines, sines, slots, wanted, hidden, out,
                       eps, rows <= MAX_OWN_ROWS && rows == shape->num_wanted};
    for (int64_t index = 0; index < 8; index++) {
        step.shape = index < 4 ? shape : &rest_shape;
        NAME(Product) product = NAME(product_at)(&step, index % 4);
        int64_t needed = NAME(plan_product)(&product);
        step.prepared_size = needed > step.prepared_size ? needed : step.prepared_size;
    }
    step.shape = shape;
    Team team;
    const int64_t num_threads = form_team(&team, shape->num_threads);
    step.prepared_size = (step.prepared_size + 63) / 64 * 64;
    step.own_size = (step.prepared_size + 2 * size * sizeof(SCALAR) + 127) / 64 * 64;
    const int64_t own_sizes = step.own_size * (step.is_alone ? num_threads : 1);
    const int64_t states_size = shape->num_states * shape->num_heads * sizeof(Softmax);
    const int64_t shared = width + 2 * query_size + size + inner_size;
    char *memory = scratch(own_sizes + states_size + shared * sizeof(SCALAR));
    step.own = memory;
    Softmax *states = (Softmax *)(memory + own_sizes);
    step.projected = (SCALAR *)(memory + own_sizes + states_size);
    step.query = step.projected + width;
    step.mixed = step.query + query_size;
    step.part = step.mixed + query_size;
    step.inner = step.part + size;
    step.attention = (NAME(StepAttention)){
        step.mixed, step.query, NULL, tables, items, phases, limits, shape->num_phases,
        shape->num_heads, shape->num_groups, shape->head_dim, shape->tiles_per_block,
        scale, states};
    NAME(Step) rest = step;
    rest.shape = &rest_shape;
#pragma omp parallel num_threads(num_threads)
    {
        Member member = join_team(&team);
        NAME(run_layers)(&member, &step, &rest);
    }
}
