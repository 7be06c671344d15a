// Sixteen floats at a time, in the vector extensions of GCC and clang: any CPU, AVX-512 at best.
#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define LANES 16

typedef uint16_t bf16;
typedef float float16 __attribute__((vector_size(64)));
typedef int32_t int16x __attribute__((vector_size(64)));
typedef uint32_t uint16x __attribute__((vector_size(64)));
typedef uint16_t ushort16 __attribute__((vector_size(32)));
typedef int8_t bytes16 __attribute__((vector_size(16)));

INLINE float16 broadcast(float x) { return x - (float16){}; }
INLINE uint16x bits_of(float16 x) { return (uint16x)x; }
INLINE float16 select_lanes(int16x mask, float16 yes, float16 no) {
    return (float16)((mask & (int16x)yes) | (~mask & (int16x)no));
}
INLINE float16 max_lanes(float16 a, float16 b) { return select_lanes(a > b, a, b); }

INLINE float scalar_from_bf16(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

// Round to nearest, ties to even; NaN stays NaN.
INLINE ushort16 bf16_lanes(float16 x) {
#ifdef __AVX512BF16__
    return (ushort16)_mm512_cvtneps_pbh((__m512)x);
#else
    uint16x bits = bits_of(x);
    uint16x rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    uint16x is_nan = (uint16x)(x != x);
    return __builtin_convertvector((is_nan & 0x7fc0) | (~is_nan & rounded), ushort16);
#endif
}
INLINE bf16 scalar_to_bf16(float x) { return bf16_lanes(broadcast(x))[0]; }

INLINE float16 load_bf16(const bf16 *p) {
    ushort16 half;
    memcpy(&half, p, sizeof half);
    return (float16)(__builtin_convertvector(half, uint16x) << 16);
}
INLINE float16 load_f32(const float *p) {
    float16 x;
    memcpy(&x, p, sizeof x);
    return x;
}
INLINE void store_bf16(bf16 *p, float16 x) {
    ushort16 half = bf16_lanes(x);
    memcpy(p, &half, sizeof half);
}
INLINE void store_f32(float *p, float16 x) { memcpy(p, &x, sizeof x); }

// Of two vectors' halves, lane by lane.
#define FIRST_LANES_IN_TURN(a, b) \
    __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define LAST_LANES_IN_TURN(a, b) \
    __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)

// Sixteen rows of sixteen words, turned over in place.
INLINE void transpose_words(uint16x *a) {
    uint16x b[LANES];
#pragma GCC unroll 4
    for (int round = 0; round < 4; round++) {
#pragma GCC unroll 8
        for (int r = 0; r < 8; r++) {
            b[2 * r] = FIRST_LANES_IN_TURN(a[r], a[r + 8]);
            b[2 * r + 1] = LAST_LANES_IN_TURN(a[r], a[r + 8]);
        }
        memcpy(a, b, sizeof b);
    }
}

// Eight rows of sixteen, turned over: out[j] holds rows 2j and 2j + 1, eight outputs each.
INLINE void transpose_eight(const float16 *in, float16 *out) {
    float16 a[8], b[8];
    memcpy(a, in, sizeof a);
#pragma GCC unroll 3
    for (int round = 0; round < 3; round++) {
#pragma GCC unroll 4
        for (int r = 0; r < 4; r++) {
            b[2 * r] = FIRST_LANES_IN_TURN(a[r], a[r + 4]);
            b[2 * r + 1] = LAST_LANES_IN_TURN(a[r], a[r + 4]);
        }
        memcpy(a, b, sizeof a);
    }
    memcpy(out, a, sizeof a);
}

// Rows [count, size] of words to columns: to[k * width + r]. Up to sixteen; the last stands for
// those that are missing.
static void turn_rows(uint32_t *to, int64_t width, const uint32_t *rows, int64_t count, int64_t size) {
    const uint32_t *from[LANES];
    for (int r = 0; r < LANES; r++) from[r] = rows + (r < count ? r : count - 1) * size;
    int64_t k = 0;
    for (; k + LANES <= size; k += LANES) {
        uint16x words[LANES];
#pragma GCC unroll 16
        for (int r = 0; r < LANES; r++) memcpy(words + r, from[r] + k, sizeof *words);
        transpose_words(words);
#pragma GCC unroll 16
        for (int r = 0; r < LANES; r++) memcpy(to + (k + r) * width, words + r, sizeof *words);
    }
    for (; k < size; k++)
        for (int r = 0; r < LANES; r++) to[k * width + r] = from[r][k];
}

// Lanes n, n + 1, ..., 15, 0, ..., n - 1.
#define LANES_FROM(n, x)                                                                      \
    __builtin_shufflevector(x, x, n, n + 1, n + 2, n + 3, n + 4, n + 5, n + 6, n + 7, n + 8,  \
                            n + 9, n + 10, n + 11, n + 12, n + 13, n + 14, n + 15)

// A fixed order: halves, quarters, and so on.
INLINE float sum_lanes(float16 x) {
    x += LANES_FROM(8, x);
    x += LANES_FROM(4, x);
    x += LANES_FROM(2, x);
    return x[0] + x[1];
}
INLINE float top_lane(float16 x) {
    x = max_lanes(x, LANES_FROM(8, x));
    x = max_lanes(x, LANES_FROM(4, x));
    x = max_lanes(x, LANES_FROM(2, x));
    return x[0] > x[1] ? x[0] : x[1];
}

// e^x to 2 ulp (Cephes' expf polynomial); 0 below -87, for x up to 88.
INLINE float16 exp_lanes(float16 x) {
    int16x is_tiny = x < -87.0f;
    x = select_lanes(is_tiny, broadcast(-87.0f), x);
    float16 shifted = x * 1.44269504088896341f + 12582912.0f;
    float16 n = shifted - 12582912.0f;
    float16 r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float16 y = 1.9875691500e-4f * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    int16x exponent = ((int16x)shifted - 0x4b400000) << 23;
    float16 result = (float16)((int16x)y + exponent);
    return select_lanes(is_tiny, broadcast(0.0f), result);
}

// 1 + e^-x: a sigmoid is 1 over it, silu x over it. Below -88, where e^-x has no place in fp32,
// both are next to 0 all the same.
INLINE float16 one_plus_exp_of_minus(float16 x) {
    return 1.0f + exp_lanes(-max_lanes(x, broadcast(-88.0f)));
}

// Memory that is kept for the next call.
typedef struct {
    void *memory;
    size_t size;
} Buffer;

static void *fit(Buffer *buffer, size_t num_bytes) {
    if (buffer->size < num_bytes) {
        free(buffer->memory);
        buffer->size = num_bytes + num_bytes / 4 + 4096;
        if (posix_memalign(&buffer->memory, 64, buffer->size)) abort();
    }
    return buffer->memory;
}

// Memory of the calling thread, for one kernel at a time.
static void *scratch(size_t num_bytes) {
    static _Thread_local Buffer buffer;
    return fit(&buffer, num_bytes);
}

// Of attention: keys scored at once, query vectors that share them, the widest head.
#define CHUNK 64
#define CHUNK_TILES (CHUNK / LANES)
#define MAX_QUERIES 24
#define MAX_HEAD_DIM 256

// An online softmax so far: highest score, last rescaling, sum by lane, weighted values.
typedef struct {
    float peak, alpha;
    float16 total;
    float values[MAX_HEAD_DIM];
} Softmax;
