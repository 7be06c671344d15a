// Attention over a paged cache, each key and value read once an item. Once for each dtype.
//
// The cache of a layer is [tile][G][keys, values], a tile being 16 tokens:
//   keys    [K / step][16 tokens][step]: a query value is broadcast to 16 keys;
//   values  [16 / step tokens][K][step]: a probability is broadcast to 16 dimensions.
// Queries of an item share their keys: the heads of a KV group, the tokens of a prompt's chunk,
// the replies to one prompt over what they share. Softmax is online over chunks of 64 keys
// (Milakov & Gimelshein 2018, arXiv:1805.02867) that start at multiples of 64, and every query
// has its own chain of additions, so its result does not depend on what is computed beside it.

// out[q][v] += sum over steps of a[q][k] * b[v][k], as 16 lanes each.
INLINE void NAME(accumulate)(const int num_q, const int num_v, float16 acc[][4], const STEP **a,
                             const STEP *const *b, int64_t b_stride, int64_t steps) {
    for (int64_t k = 0; k < steps; k++) {
        STEP_VECTOR lanes[4];
#pragma GCC unroll 4
        for (int v = 0; v < num_v; v++) lanes[v] = NAME(load_steps)(b[v] + k * b_stride);
#pragma GCC unroll 6
        for (int q = 0; q < num_q; q++)
#pragma GCC unroll 4
            for (int v = 0; v < num_v; v++) acc[q][v] = NAME(step)(acc[q][v], lanes[v], a[q][k]);
    }
}

typedef struct {
    const SCALAR *tiles;
    const int64_t *blocks;
    int64_t tiles_per_block, num_groups, group, head_dim, num_tiles;
    float scale;
} NAME(Context);

INLINE const STEP *NAME(keys_of)(const NAME(Context) *context, int64_t tile) {
    // Behind the last tile every key is masked: any tile will do.
    if (tile >= context->num_tiles) tile = context->num_tiles - 1;
    int64_t block = context->blocks[tile / context->tiles_per_block];
    int64_t index = block * context->tiles_per_block + tile % context->tiles_per_block;
    index = index * context->num_groups + context->group;
    return (const STEP *)(context->tiles + index * 2 * LANES * context->head_dim);
}

// scores[q][key] of a chunk's first `num_v` tiles.
INLINE void NAME(score_tiles)(const int num_q, const int num_v, const NAME(Context) *context,
                              int64_t start, const STEP **queries, float scores[][CHUNK]) {
    const STEP *keys[CHUNK_TILES];
    float16 acc[6][4];
    for (int t = 0; t < num_v; t++) keys[t] = NAME(keys_of)(context, start / LANES + t);
#pragma GCC unroll 6
    for (int q = 0; q < num_q; q++)
#pragma GCC unroll 4
        for (int t = 0; t < num_v; t++) acc[q][t] = broadcast(0.0f);
    NAME(accumulate)(num_q, num_v, acc, queries, keys, LANES, context->head_dim / STEP_WIDTH);
#pragma GCC unroll 6
    for (int q = 0; q < num_q; q++)
#pragma GCC unroll 4
        for (int t = 0; t < num_v; t++) store_f32(scores[q] + t * LANES, acc[q][t] * context->scale);
}

// A query's probabilities in `num_v` tiles of which it sees the first `visible` keys, not yet
// divided by their sum, and how much the earlier ones shrink.
INLINE void NAME(soften)(const int num_v, int32_t visible, const float *scores, Softmax *state,
                         SCALAR *probs) {
    const int16x lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    float16 seen[CHUNK_TILES], highest = broadcast(-INFINITY);
#pragma GCC unroll 4
    for (int t = 0; t < num_v; t++) {
        seen[t] = load_f32(scores + t * LANES);
        if (visible < num_v * LANES)
            seen[t] = select_lanes(lane < visible - t * LANES, seen[t], broadcast(-INFINITY));
        highest = max_lanes(seen[t], highest);
    }
    float peak = top_lane(highest);
    peak = peak > state->peak ? peak : state->peak;
    // expf(0) and expf(-INFINITY) without the call: most chunks are the first, or raise no peak.
    if (state->peak == peak) state->alpha = 1.0f;
    else state->alpha = state->peak == -INFINITY ? 0.0f : expf(state->peak - peak);
    state->peak = peak;
    state->total *= state->alpha;
#pragma GCC unroll 4
    for (int t = 0; t < num_v; t++) {
        float16 p = exp_lanes(seen[t] - peak);
        state->total += p;
        NAME(store)(probs + t * LANES, p);
    }
}

INLINE void NAME(mix_values)(const int num_q, const int num_v, const NAME(Context) *context,
                             int64_t start, int64_t num_tiles, int64_t dim, Softmax *state,
                             SCALAR probs[][CHUNK]) {
    float16 acc[6][4];
#pragma GCC unroll 6
    for (int q = 0; q < num_q; q++)
#pragma GCC unroll 4
        for (int v = 0; v < num_v; v++)
            acc[q][v] = load_f32(state[q].values + dim + v * LANES) * state[q].alpha;
    for (int64_t t = 0; t < num_tiles; t++) {
        const STEP *values = NAME(keys_of)(context, start / LANES + t);
        values += LANES * context->head_dim / STEP_WIDTH;
        const STEP *b[4], *a[6];
        for (int v = 0; v < num_v; v++) b[v] = values + dim + v * LANES;
        for (int q = 0; q < num_q; q++) a[q] = (const STEP *)(probs[q] + t * LANES);
        NAME(accumulate)(num_q, num_v, acc, a, b, context->head_dim, LANES / STEP_WIDTH);
    }
#pragma GCC unroll 6
    for (int q = 0; q < num_q; q++)
#pragma GCC unroll 4
        for (int v = 0; v < num_v; v++) store_f32(state[q].values + dim + v * LANES, acc[q][v]);
}

// A chunk of keys, of which the last that one of the queries sees is before `end`.
INLINE void NAME(attend_queries)(const int num_q, const NAME(Context) *context, int64_t start,
                                 int64_t end, const STEP **queries, const int64_t *limits,
                                 Softmax *state) {
    _Alignas(64) SCALAR probs[6][CHUNK];
    _Alignas(64) float scores[6][CHUNK];
    const int64_t num_keys = end - start < CHUNK ? end - start : CHUNK;
    const int64_t num_tiles = (num_keys + LANES - 1) / LANES;
    if (num_tiles <= 2) NAME(score_tiles)(num_q, 2, context, start, queries, scores);
    else NAME(score_tiles)(num_q, 4, context, start, queries, scores);
    for (int q = 0; q < num_q; q++) {
        const int32_t visible = (int32_t)(limits[q] - start < CHUNK ? limits[q] - start : CHUNK);
        if (num_tiles <= 2) NAME(soften)(2, visible, scores[q], state + q, probs[q]);
        else NAME(soften)(4, visible, scores[q], state + q, probs[q]);
    }
    int64_t dim = 0;
    for (; dim + 4 * LANES <= context->head_dim; dim += 4 * LANES)
        NAME(mix_values)(num_q, 4, context, start, num_tiles, dim, state, probs);
    for (; dim < context->head_dim; dim += LANES)
        NAME(mix_values)(num_q, 1, context, start, num_tiles, dim, state, probs);
}

// Every query over the keys start..its limit; a chunk of keys serves them all.
static void NAME(attend_item)(const NAME(Context) *context, int64_t start, int64_t num_queries,
                              const STEP **queries, const int64_t *limits, Softmax *state) {
    for (int64_t key = start; key < context->num_tiles * LANES; key += CHUNK)
        for (int64_t first = 0; first < num_queries; first += 6) {
            int64_t count = num_queries - first < 6 ? num_queries - first : 6, last = 0;
            for (int64_t q = first; q < first + count; q++) last = limits[q] > last ? limits[q] : last;
            if (last <= key) continue;
#define CASE(n)                                                                                 \
    case n:                                                                                     \
        NAME(attend_queries)(n, context, key, last, queries + first, limits + first, state + first);  \
        break;
            switch (count) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) }
#undef CASE
        }
}

INLINE void NAME(copy_state)(Softmax *to, const Softmax *from, int64_t head_dim) {
    memcpy(to, from, sizeof *to - sizeof to->values);
    memcpy(to->values, from->values, head_dim * sizeof(float));
}

// A step's queries [N, H, K] and what they attend to, as `r1_attend` has it.
typedef struct {
    SCALAR *out;
    const SCALAR *query, *tiles;
    const int64_t *tables, *items, *phases, *limits;
    int64_t num_phases, num_heads, num_groups, head_dim, tiles_per_block;
    float scale;
    Softmax *states;
} NAME(StepAttention);

// One item for one of the KV groups.
static void NAME(attend_unit)(const NAME(StepAttention) *all, int64_t unit) {
    const int64_t *item = all->items + unit / all->num_groups * 6;
    const int64_t head_dim = all->head_dim, ratio = all->num_heads / all->num_groups;
    const NAME(Context) context = {
        all->tiles, all->tables + item[2], all->tiles_per_block, all->num_groups,
        unit % all->num_groups, head_dim, (item[4] + LANES - 1) / LANES, all->scale};
    const int64_t num_vectors = (item[1] - item[0]) * ratio;
    const int is_kept = item[5] & 1, is_continued = item[5] & 2;
    for (int64_t begin = 0; begin < num_vectors; begin += MAX_QUERIES) {
        int64_t left = num_vectors - begin, count = left < MAX_QUERIES ? left : MAX_QUERIES;
        const STEP *queries[MAX_QUERIES];
        int64_t limits[MAX_QUERIES], places[MAX_QUERIES];
        Softmax state[MAX_QUERIES], *saved[MAX_QUERIES];
        for (int64_t i = 0; i < count; i++) {
            int64_t token = item[0] + (begin + i) / ratio;
            int64_t head = token * all->num_heads + context.group * ratio + (begin + i) % ratio;
            places[i] = head * head_dim;
            queries[i] = (const STEP *)(all->query + places[i]);
            limits[i] = all->limits[token] < item[4] ? all->limits[token] : item[4];
            saved[i] = all->states + head;
            if (is_continued) {
                NAME(copy_state)(state + i, saved[i], head_dim);
                continue;
            }
            state[i].peak = -INFINITY;
            state[i].total = broadcast(0.0f);
            memset(state[i].values, 0, head_dim * sizeof(float));
        }
        NAME(attend_item)(&context, item[3], count, queries, limits, state);
        for (int64_t i = 0; i < count; i++) {
            if (is_kept) {
                NAME(copy_state)(saved[i], state + i, head_dim);
                continue;
            }
            float weight = 1.0f / sum_lanes(state[i].total);
            for (int64_t d = 0; d < head_dim; d += LANES)
                NAME(store)(all->out + places[i] + d, load_f32(state[i].values + d) * weight);
        }
    }
}

// The items for all groups, phase by phase.
static void NAME(attend)(Member *member, const NAME(StepAttention) *all) {
    for (int64_t phase = 0; phase < all->num_phases; phase++) {
        const int64_t first = all->phases[phase] * all->num_groups;
        const int64_t num_units = all->phases[phase + 1] * all->num_groups - first;
        for (int64_t unit; (unit = next_in_turn(member, num_units)) >= 0;)
            NAME(attend_unit)(all, first + unit);
        meet(member);
    }
}

// Items [.., 6]: tokens begin..end, begin of their blocks in `tables`, first key, end of the keys,
// 1 to leave the softmax for later items, 2 to go on from what is left. `limits` [N]: keys that a
// token sees. Items of a phase, phases[i]..phases[i + 1], go on from those of the phases before;
// only the first `num_states` tokens do.
void NAME(r1_attend)(SCALAR *out, const SCALAR *query, const SCALAR *tiles, const int64_t *tables,
                     const int64_t *items, const int64_t *phases, int64_t num_phases,
                     const int64_t *limits, int64_t num_states, int64_t num_heads, int64_t num_groups,
                     int64_t head_dim, int64_t tiles_per_block, float scale, int64_t num_threads) {
    const NAME(StepAttention) all = {
        out, query, tiles, tables, items, phases, limits, num_phases, num_heads, num_groups,
        head_dim, tiles_per_block, scale, scratch(num_states * num_heads * sizeof(Softmax) + 64)};
    Team team;
    num_threads = form_team(&team, num_threads);
#pragma omp parallel num_threads(num_threads)
    {
        Member member = join_team(&team);
        NAME(attend)(&member, &all);
    }
}

// Put a token's key and value [K] of group `g` under a flat cache slot.
INLINE void NAME(write_head)(SCALAR *tiles, const SCALAR *key, const SCALAR *value, int64_t slot,
                             int64_t g, int64_t num_groups, int64_t head_dim) {
    int64_t lane = slot % LANES, tile = slot / LANES * num_groups + g;
    SCALAR *keys = tiles + tile * 2 * LANES * head_dim;
    STEP *key_steps = (STEP *)keys;
    SCALAR *values = keys + LANES * head_dim + lane / STEP_WIDTH * head_dim * STEP_WIDTH;
    const STEP *from = (const STEP *)key;
    for (int64_t k = 0; k < head_dim / STEP_WIDTH; k++) key_steps[k * LANES + lane] = from[k];
    for (int64_t d = 0; d < head_dim; d++) values[d * STEP_WIDTH + lane % STEP_WIDTH] = value[d];
}

// Put keys and values [N, G, K] (each token's in one piece) under flat cache slots [N].
void NAME(r1_write_cache)(SCALAR *tiles, const SCALAR *key, const SCALAR *value,
                          int64_t key_stride, int64_t value_stride, const int64_t *slots,
                          int64_t num_tokens, int64_t num_groups, int64_t head_dim,
                          int64_t num_threads) {
#pragma omp parallel for num_threads(num_tokens < 16 ? 1 : num_threads)
    for (int64_t n = 0; n < num_tokens; n++)
        for (int64_t g = 0; g < num_groups; g++)
            NAME(write_head)(tiles, key + n * key_stride + g * head_dim,
                             value + n * value_stride + g * head_dim, slots[n], g, num_groups, head_dim);
}
