// Causal attention of training, forward and backward, over the segments of a packed row. Included
// once for each dtype.
//
// A segment attends to itself, and before it to all of its prefix: another segment, of which many
// may share one (the replies to a prompt). Lanes are queries, so that the softmax goes along
// plain vectors; products are of blocks of 64 queries with 64 keys, as in FlashAttention 2
// (arXiv:2307.08691). One task is one head of one family (a prefix and those that share it): it
// alone writes its gradients, in a fixed order, so every run gives the same bits.

#define BLOCK 64
#define BLOCK_WORDS (BLOCK / STEP_WIDTH)

typedef struct {
    int64_t start, length, first_block, prefix;  // tokens of the row; prefix: a segment or -1
} NAME(Segment);

typedef struct {
    const NAME(Segment) *segments;
    const int64_t *families;  // the first segment of each, and the end
    int64_t num_families, num_blocks, num_heads, num_kv_heads, head_dim;
    float scale;
    const SCALAR *query, *key, *value;
    int64_t query_stride, key_stride, value_stride;  // from token to token
} NAME(Attention);

// c [num_rows, 16 num_vectors] (+)= a [num_rows, words] b [words, 16 num_vectors]. Rows of `a` past
// `num_real` repeat the last.
INLINE void NAME(multiply_columns)(const int num_vectors, float *c, int64_t c_stride,
                                   int64_t num_rows, const SCALAR *a, int64_t a_stride,
                                   int64_t num_real, const STEP *b, int64_t b_stride,
                                   int64_t words, int is_added) {
    for (int64_t row = 0; row < num_rows; row += 4) {
        float16 acc[4][4];
        const SCALAR *rows[4];
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            int64_t real = row + r < num_real ? row + r : num_real - 1;
            rows[r] = a + real * a_stride;
#pragma GCC unroll 4
            for (int v = 0; v < num_vectors; v++)
                acc[r][v] = is_added ? load_f32(c + (row + r) * c_stride + v * LANES) : broadcast(0.0f);
        }
        for (int64_t w = 0; w < words; w++) {
            STEP_VECTOR lanes[4];
#pragma GCC unroll 4
            for (int v = 0; v < num_vectors; v++) lanes[v] = NAME(load_steps)(b + w * b_stride + v * LANES);
#pragma GCC unroll 4
            for (int r = 0; r < 4; r++) {
                STEP word;
                memcpy(&word, rows[r] + w * STEP_WIDTH, sizeof word);
#pragma GCC unroll 4
                for (int v = 0; v < num_vectors; v++) acc[r][v] = NAME(step)(acc[r][v], lanes[v], word);
            }
        }
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++)
#pragma GCC unroll 4
            for (int v = 0; v < num_vectors; v++) store_f32(c + (row + r) * c_stride + v * LANES, acc[r][v]);
    }
}

static void NAME(multiply)(float *c, int64_t num_columns, int64_t num_rows, const SCALAR *a,
                           int64_t a_stride, int64_t num_real, const STEP *b, int64_t words,
                           int is_added) {
    int64_t n = 0;
    for (; n + 4 * LANES <= num_columns; n += 4 * LANES)
        NAME(multiply_columns)(4, c + n, num_columns, num_rows, a, a_stride, num_real, b + n, num_columns, words, is_added);
    for (; n < num_columns; n += LANES)
        NAME(multiply_columns)(1, c + n, num_columns, num_rows, a, a_stride, num_real, b + n, num_columns, words, is_added);
}

// Rows [count, K] to [K / step][64]: lanes are rows. Zeros behind the last.
static void NAME(pack_columns)(STEP *out, const SCALAR *rows, int64_t stride, int64_t count, int64_t size) {
    for (int64_t n = 0; n < BLOCK; n++)
        for (int64_t w = 0; w < size / STEP_WIDTH; w++) {
            STEP word = 0;
            if (n < count) memcpy(&word, rows + n * stride + w * STEP_WIDTH, sizeof word);
            out[w * BLOCK + n] = word;
        }
}

// Rows [count, K] to [64 / step][K]: a word holds the same column of neighbouring rows.
static void NAME(pack_pairs)(STEP *out, const SCALAR *rows, int64_t stride, int64_t count, int64_t size) {
    SCALAR *values = (SCALAR *)out;
    memset(out, 0, BLOCK * size * sizeof *values);
    for (int64_t n = 0; n < count; n++)
        for (int64_t d = 0; d < size; d++)
            values[(n / STEP_WIDTH * size + d) * STEP_WIDTH + n % STEP_WIDTH] = rows[n * stride + d];
}

// Rows [count, K] to [K][64].
static void NAME(pack_transposed)(SCALAR *out, const SCALAR *rows, int64_t stride, int64_t count, int64_t size) {
    memset(out, 0, BLOCK * size * sizeof *out);
    for (int64_t n = 0; n < count; n++)
        for (int64_t d = 0; d < size; d++) out[d * BLOCK + n] = rows[n * stride + d];
}

// [K, 64] back to `count` rows.
static void NAME(unpack_transposed)(SCALAR *rows, int64_t stride, int64_t count, int64_t size, const float *values) {
    for (int64_t n = 0; n < count; n++)
        for (int64_t d = 0; d < size; d++) rows[n * stride + d] = NAME(from_float)(values[d * BLOCK + n]);
}

INLINE void NAME(store_scalars)(SCALAR *out, float16 x) {
#if STEP_WIDTH == 2
    store_bf16(out, x);
#else
    store_f32(out, x);
#endif
}

// The rows k .. k + step - 1 of a block, as one row of words.
INLINE void NAME(store_words)(STEP *out, const float16 *rows) {
#if STEP_WIDTH == 2
    uint16x low = __builtin_convertvector(bf16_lanes(rows[0]), uint16x);
    uint16x high = __builtin_convertvector(bf16_lanes(rows[1]), uint16x);
    uint16x words = low | (high << 16);
    memcpy(out, &words, sizeof words);
#else
    store_f32(out, rows[0]);
#endif
}

// Every key block of all heads transposed: [G][blocks][K][64].
static void NAME(transpose_blocks)(const NAME(Attention) *a, SCALAR *out, const SCALAR *rows, int64_t stride) {
    const int64_t num_segments = a->families[a->num_families], size = a->head_dim;
#pragma omp for schedule(dynamic, 1) collapse(2)
    for (int64_t g = 0; g < a->num_kv_heads; g++)
        for (int64_t s = 0; s < num_segments; s++) {
            const NAME(Segment) *segment = a->segments + s;
            for (int64_t n = 0; n < segment->length; n += BLOCK) {
                int64_t count = segment->length - n < BLOCK ? segment->length - n : BLOCK;
                int64_t block = g * a->num_blocks + segment->first_block + n / BLOCK;
                NAME(pack_transposed)(out + block * size * BLOCK, rows + (segment->start + n) * stride + g * size, stride, count, size);
            }
        }
}

// One block of keys, as the queries of block `first_query` of `segment` see it.
typedef struct {
    int64_t token, num_keys, block, diagonal;  // diagonal: whether later keys are hidden
} NAME(KeyBlock);

INLINE int64_t NAME(num_key_blocks)(const NAME(Attention) *a, const NAME(Segment) *segment, int64_t first_query) {
    int64_t before = segment->prefix < 0 ? 0 : (a->segments[segment->prefix].length + BLOCK - 1) / BLOCK;
    return before + first_query / BLOCK + 1;
}

INLINE NAME(KeyBlock) NAME(key_block)(const NAME(Attention) *a, const NAME(Segment) *segment, int64_t first_query, int64_t j) {
    int64_t before = NAME(num_key_blocks)(a, segment, first_query) - first_query / BLOCK - 1;
    const NAME(Segment) *keys = j < before ? a->segments + segment->prefix : segment;
    if (j >= before) j -= before;
    int64_t left = keys->length - j * BLOCK;
    return (NAME(KeyBlock)){keys->start + j * BLOCK, left < BLOCK ? left : BLOCK, keys->first_block + j,
                            keys == segment && j == first_query / BLOCK};
}

static const int32_t NAME(LANE)[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// Row k of the scores, hidden where a query lies before the key.
INLINE float16 NAME(seen)(const NAME(KeyBlock) *keys, int64_t k, int v, float16 score, float hidden) {
    if (!keys->diagonal) return score;
    int16x query;
    memcpy(&query, NAME(LANE), sizeof query);
    return select_lanes(query + v * LANES >= (int32_t)k - (int16x){}, score, broadcast(hidden));
}

static void NAME(attend_block)(const NAME(Attention) *a, const NAME(Segment) *segment, int64_t first,
                               int64_t head, const SCALAR *values_t, SCALAR *out, float *lse) {
    const int64_t size = a->head_dim, group = head / (a->num_heads / a->num_kv_heads);
    const int64_t count = segment->length - first < BLOCK ? segment->length - first : BLOCK;
    float *scores = scratch((BLOCK * BLOCK + size * BLOCK) * 4 + (size + BLOCK) * BLOCK * sizeof(SCALAR));
    float *mixed = scores + BLOCK * BLOCK;
    STEP *query = (STEP *)(mixed + size * BLOCK), *probs = query + size / STEP_WIDTH * BLOCK;
    const int64_t token = segment->start + first;
    NAME(pack_columns)(query, a->query + token * a->query_stride + head * size, a->query_stride, count, size);
    float16 top[4], total[4];
    for (int v = 0; v < 4; v++) top[v] = broadcast(-1e30f), total[v] = broadcast(0.0f);
    const int64_t num_blocks = NAME(num_key_blocks)(a, segment, first);
    for (int64_t j = 0; j < num_blocks; j++) {
        NAME(KeyBlock) keys = NAME(key_block)(a, segment, first, j);
        NAME(multiply)(scores, BLOCK, BLOCK, a->key + keys.token * a->key_stride + group * size, a->key_stride, keys.num_keys, query, size / STEP_WIDTH, 0);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            float16 highest = top[v];
            for (int64_t k = 0; k < keys.num_keys; k++) {
                float16 score = NAME(seen)(&keys, k, v, load_f32(scores + k * BLOCK + v * LANES) * a->scale, -1e30f);
                store_f32(scores + k * BLOCK + v * LANES, score);
                highest = max_lanes(highest, score);
            }
            float16 fade = exp_lanes(top[v] - highest);
            top[v] = highest;
            total[v] *= fade;
            for (int64_t k = 0; k < BLOCK; k += STEP_WIDTH) {
                float16 pair[STEP_WIDTH];
                for (int s = 0; s < STEP_WIDTH; s++) {
                    pair[s] = broadcast(0.0f);
                    if (k + s < keys.num_keys) pair[s] = exp_lanes(load_f32(scores + (k + s) * BLOCK + v * LANES) - highest);
                    total[v] += pair[s];
                }
                NAME(store_words)(probs + k / STEP_WIDTH * BLOCK + v * LANES, pair);
            }
            for (int64_t d = 0; j > 0 && d < size; d++)
                store_f32(mixed + d * BLOCK + v * LANES, load_f32(mixed + d * BLOCK + v * LANES) * fade);
        }
        const SCALAR *values = values_t + (group * a->num_blocks + keys.block) * size * BLOCK;
        NAME(multiply)(mixed, BLOCK, size, values, BLOCK, size, probs, BLOCK_WORDS, j > 0);
    }
    for (int v = 0; v < 4; v++) {
        for (int64_t d = 0; d < size; d++)
            store_f32(mixed + d * BLOCK + v * LANES, load_f32(mixed + d * BLOCK + v * LANES) / total[v]);
        for (int n = 0; n < LANES && v * LANES + n < count; n++)
            lse[token + v * LANES + n] = top[v][n] + logf(total[v][n]);
    }
    NAME(unpack_transposed)(out + (token * a->num_heads + head) * size, a->num_heads * size, count, size, mixed);
}

// out [N, H, K] and lse [H, N], the logarithm of each query's sum; values_t: room for [G, blocks, K, 64].
void NAME(r1_segments_forward)(const NAME(Attention) *a, SCALAR *out, float *lse, int64_t num_tokens,
                               SCALAR *values_t, int64_t num_threads) {
#pragma omp parallel num_threads(num_threads)
    {
        NAME(transpose_blocks)(a, values_t, a->value, a->value_stride);
#pragma omp for schedule(dynamic, 1) collapse(2)
        for (int64_t family = 0; family < a->num_families; family++)
            for (int64_t head = 0; head < a->num_heads; head++)
                for (int64_t s = a->families[family]; s < a->families[family + 1]; s++)
                    for (int64_t n = 0; n < a->segments[s].length; n += BLOCK)
                        NAME(attend_block)(a, a->segments + s, n, head, values_t, out, lse + head * num_tokens);
    }
}

typedef struct {
    const SCALAR *out, *out_gradient, *keys_t;
    const float *lse;
    SCALAR *query_gradient;
    float *key_gradients, *value_gradients;  // [H, blocks, 64, K]
} NAME(Gradients);

// Rows of probabilities and of their scores' gradients, from the two products.
static void NAME(score_gradients)(const NAME(KeyBlock) *keys, const float *scores, float *products,
                                  const float *lse, const float *delta, float scale, SCALAR *probs,
                                  SCALAR *gradients, STEP *gradient_words) {
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) {
        float16 lse_v = load_f32(lse + v * LANES), delta_v = load_f32(delta + v * LANES);
        for (int64_t k = 0; k < BLOCK; k += STEP_WIDTH) {
            float16 pair[STEP_WIDTH];
            for (int s = 0; s < STEP_WIDTH; s++) {
                int64_t place = (k + s) * BLOCK + v * LANES;
                float16 prob = broadcast(0.0f);
                pair[s] = prob;
                if (k + s < keys->num_keys) {  // past them the products were never written
                    prob = NAME(seen)(keys, k + s, v, exp_lanes(load_f32(scores + place) * scale - lse_v), 0.0f);
                    pair[s] = prob * (load_f32(products + place) - delta_v) * scale;
                }
                NAME(store_scalars)(probs + place, prob);
                NAME(store_scalars)(gradients + place, pair[s]);
            }
            NAME(store_words)(gradient_words + k / STEP_WIDTH * BLOCK + v * LANES, pair);
        }
    }
}

static void NAME(differentiate_block)(const NAME(Attention) *a, const NAME(Gradients) *to,
                                      const NAME(Segment) *segment, int64_t first, int64_t head, int64_t num_tokens) {
    const int64_t size = a->head_dim, group = head / (a->num_heads / a->num_kv_heads), words = size / STEP_WIDTH;
    const int64_t count = segment->length - first < BLOCK ? segment->length - first : BLOCK;
    const int64_t token = segment->start + first, stride = a->num_heads * size;
    float *scores = scratch((2 * BLOCK * BLOCK + size * BLOCK + 2 * BLOCK) * 4 + (4 * size + 3 * BLOCK) * BLOCK * sizeof(SCALAR));
    float *products = scores + BLOCK * BLOCK, *query_gradient = products + BLOCK * BLOCK;
    float *lse = query_gradient + size * BLOCK, *delta = lse + BLOCK;
    STEP *query = (STEP *)(delta + BLOCK), *out_gradient = query + words * BLOCK;
    STEP *query_pairs = out_gradient + words * BLOCK, *out_pairs = query_pairs + words * BLOCK;
    SCALAR *probs = (SCALAR *)(out_pairs + words * BLOCK), *gradients = probs + BLOCK * BLOCK;
    STEP *gradient_words = (STEP *)(gradients + BLOCK * BLOCK);
    const SCALAR *query_rows = a->query + token * a->query_stride + head * size;
    const SCALAR *out_rows = to->out_gradient + token * stride + head * size;
    NAME(pack_columns)(query, query_rows, a->query_stride, count, size);
    NAME(pack_pairs)(query_pairs, query_rows, a->query_stride, count, size);
    NAME(pack_columns)(out_gradient, out_rows, stride, count, size);
    NAME(pack_pairs)(out_pairs, out_rows, stride, count, size);
    for (int64_t n = 0; n < BLOCK; n++) {
        // exp(score - 1e30) = 0: queries past the end have no part in anything.
        lse[n] = n < count ? to->lse[head * num_tokens + token + n] : 1e30f;
        delta[n] = 0.0f;
        for (int64_t d = 0; n < count && d < size; d++)
            delta[n] += NAME(to_float)(out_rows[n * stride + d]) * NAME(to_float)(to->out[(token + n) * stride + head * size + d]);
    }
    const int64_t num_blocks = NAME(num_key_blocks)(a, segment, first);
    for (int64_t j = 0; j < num_blocks; j++) {
        NAME(KeyBlock) keys = NAME(key_block)(a, segment, first, j);
        NAME(multiply)(scores, BLOCK, BLOCK, a->key + keys.token * a->key_stride + group * size, a->key_stride, keys.num_keys, query, words, 0);
        NAME(multiply)(products, BLOCK, BLOCK, a->value + keys.token * a->value_stride + group * size, a->value_stride, keys.num_keys, out_gradient, words, 0);
        NAME(score_gradients)(&keys, scores, products, lse, delta, a->scale, probs, gradients, gradient_words);
        const int64_t place = (head * a->num_blocks + keys.block) * BLOCK * size;
        NAME(multiply)(to->value_gradients + place, size, BLOCK, probs, BLOCK, BLOCK, out_pairs, BLOCK_WORDS, 1);
        NAME(multiply)(to->key_gradients + place, size, BLOCK, gradients, BLOCK, BLOCK, query_pairs, BLOCK_WORDS, 1);
        const SCALAR *keys_t = to->keys_t + (group * a->num_blocks + keys.block) * size * BLOCK;
        NAME(multiply)(query_gradient, BLOCK, size, keys_t, BLOCK, size, gradient_words, BLOCK_WORDS, j > 0);
    }
    NAME(unpack_transposed)(to->query_gradient + token * stride + head * size, stride, count, size, query_gradient);
}

// The heads of a group added up, in their order: [blocks] to tokens [N, G, K].
static void NAME(add_heads)(const NAME(Attention) *a, SCALAR *out, const float *gradients, int64_t s) {
    const int64_t size = a->head_dim, per_group = a->num_heads / a->num_kv_heads;
    const NAME(Segment) *segment = a->segments + s;
    for (int64_t n = 0; n < segment->length; n++)
        for (int64_t g = 0; g < a->num_kv_heads; g++)
            for (int64_t d = 0; d < size; d += LANES) {
                float16 sum = broadcast(0.0f);
                for (int64_t h = g * per_group; h < (g + 1) * per_group; h++)
                    sum += load_f32(gradients + ((h * a->num_blocks + segment->first_block) * BLOCK + n) * size + d);
                NAME(store_scalars)(out + ((segment->start + n) * a->num_kv_heads + g) * size + d, sum);
            }
}

void NAME(r1_segments_backward)(const NAME(Attention) *a, const NAME(Gradients) *to, SCALAR *keys_t,
                                SCALAR *key_gradient, SCALAR *value_gradient, int64_t num_tokens,
                                int64_t num_threads) {
    const int64_t num_segments = a->families[a->num_families], block = BLOCK * a->head_dim;
#pragma omp parallel num_threads(num_threads)
    {
        NAME(transpose_blocks)(a, keys_t, a->key, a->key_stride);
#pragma omp for schedule(dynamic, 1) collapse(2)
        for (int64_t family = 0; family < a->num_families; family++)
            for (int64_t head = 0; head < a->num_heads; head++)
                for (int64_t s = a->families[family]; s < a->families[family + 1]; s++) {
                    const NAME(Segment) *segment = a->segments + s;
                    int64_t place = (head * a->num_blocks + segment->first_block) * block;
                    size_t num_bytes = (segment->length + BLOCK - 1) / BLOCK * block * 4;
                    memset(to->key_gradients + place, 0, num_bytes);
                    memset(to->value_gradients + place, 0, num_bytes);
                    for (int64_t n = 0; n < segment->length; n += BLOCK)
                        NAME(differentiate_block)(a, to, segment, n, head, num_tokens);
                }
#pragma omp for schedule(dynamic, 1)
        for (int64_t s = 0; s < num_segments; s++) {
            NAME(add_heads)(a, key_gradient, to->key_gradients, s);
            NAME(add_heads)(a, value_gradient, to->value_gradients, s);
        }
    }
}
#undef BLOCK
#undef BLOCK_WORDS
