// All layers of Llama or Qwen2 on packed tokens in one call: at few tokens, returning to Python
// between a layer's parts takes as long as computing them. The same functions in the same order
// as part by part, so the same bits. Once for each dtype.

#ifndef LAYERS_ONCE
#define LAYERS_ONCE
typedef struct {
    int64_t num_layers, num_tokens, hidden_size, num_heads, num_groups, head_dim, inner_size;
    int64_t max_dot_rows, tiles_per_block, num_phases, num_states, num_threads;
} LayersShape;
#endif

// Weights as checkpoints have them, biases or NULL, and the layer's cache.
typedef struct {
    const SCALAR *input_norm, *query, *key, *value, *query_bias, *key_bias, *value_bias;
    const SCALAR *output, *output_bias, *mlp_norm, *gate, *up, *down;
    SCALAR *tiles;
} NAME(Layer);

static void NAME(add)(SCALAR *to, const SCALAR *x, int64_t num_rows, int64_t size,
                      int64_t num_threads) {
#pragma omp parallel for num_threads(num_rows < 16 ? 1 : num_threads)
    for (int64_t row = 0; row < num_rows; row++) {
        int64_t i = row * size, end = i + size;
        for (; i + LANES <= end; i += LANES)
            NAME(store)(to + i, NAME(load)(to + i) + NAME(load)(x + i));
        for (; i < end; i++) to[i] = NAME(from_float)(NAME(to_float)(to[i]) + NAME(to_float)(x[i]));
    }
}

// `hidden` [N, D] in place. `workspace`: N * (2 D + 3 H K + 3 G K + F) values. The rest as
// r1_rotate, r1_write_cache and r1_attend have it.
void NAME(r1_layers)(SCALAR *hidden, SCALAR *workspace, const NAME(Layer) *layers,
                     const LayersShape *shape, const SCALAR *cosines, const SCALAR *sines,
                     const int64_t *slots, const int64_t *tables, const int64_t *items,
                     const int64_t *phases, const int64_t *limits, float eps, float scale) {
    const int64_t rows = shape->num_tokens, size = shape->hidden_size, dim = shape->head_dim;
    const int64_t heads = shape->num_heads, groups = shape->num_groups, threads = shape->num_threads;
    const int64_t query_size = heads * dim, key_size = groups * dim, dot_rows = shape->max_dot_rows;
    const int64_t width = query_size + 2 * key_size, inner_size = shape->inner_size;
    SCALAR *normed = workspace, *part = normed + rows * size, *projected = part + rows * size;
    SCALAR *query = projected + rows * width, *key = query + rows * query_size;
    SCALAR *mixed = key + rows * key_size, *inner = mixed + rows * query_size;
    const SCALAR *value = projected + query_size + key_size;
    for (const NAME(Layer) *layer = layers; layer < layers + shape->num_layers; layer++) {
        NAME(r1_rms_norm)(normed, hidden, layer->input_norm, rows, size, eps, threads);
        NAME(r1_linear)(projected, normed, rows, size, layer->query, layer->key, layer->value,
                        query_size, key_size, key_size, layer->query_bias, layer->key_bias,
                        layer->value_bias, 0, dot_rows, threads);
        NAME(r1_rotate)(query, projected, width, dim, cosines, sines, rows, heads, dim, threads);
        NAME(r1_rotate)(key, projected + query_size, width, dim, cosines, sines, rows, groups, dim,
                        threads);
        NAME(r1_write_cache)(layer->tiles, key, value, key_size, width, slots, rows, groups, dim,
                             threads);
        NAME(r1_attend)(mixed, query, layer->tiles, tables, items, phases, shape->num_phases, limits,
                        shape->num_states, heads, groups, dim, shape->tiles_per_block, scale,
                        threads);
        NAME(r1_linear)(part, mixed, rows, query_size, layer->output, NULL, NULL, size, 0, 0,
                        layer->output_bias, NULL, NULL, 0, dot_rows, threads);
        NAME(add)(hidden, part, rows, size, threads);
        NAME(r1_rms_norm)(normed, hidden, layer->mlp_norm, rows, size, eps, threads);
        NAME(r1_linear)(inner, normed, rows, size, layer->gate, layer->up, NULL, inner_size,
                        inner_size, 0, NULL, NULL, NULL, 1, dot_rows, threads);
        NAME(r1_linear)(part, inner, rows, inner_size, layer->down, NULL, NULL, size, 0, 0, NULL,
                        NULL, NULL, 0, dot_rows, threads);
        NAME(add)(hidden, part, rows, size, threads);
    }
}
