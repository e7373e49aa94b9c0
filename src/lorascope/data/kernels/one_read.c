/* One read of stacked factors: their products with directions, and their Gram matrices.
 *
 *     x: (l, b, r, n), p: (l, n, c)  ->  product: (l, b, r, c) = x p,  gram: (l, b, r, r) = x x^T
 *
 * Eight rows at once meet 16 directions, while the eight rows after them are fetched; then the factors that
 * they complete are multiplied with themselves, still in the cache. Sums are float32, 16 side by side. Rows that
 * a tile lacks are the last one again, and nothing is written of them. Compiled for the processor at hand,
 * which has AVX-512 (see layers/one_read.py). */
#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;
typedef __m512 lanes;
typedef float loose __attribute__((vector_size(64), aligned(4)));

enum { WIDE = 16, TILE = 8, SIDE = 4, AT_ONCE = 256 /* rows of a task */ };

static i64 least(i64 a, i64 b) { return a < b ? a : b; }

static const float *row(const float *x, i64 i, i64 rows, i64 n) { return x + least(i, rows - 1) * n; }

/* Rows i to i + 7 of (rows, n) times `few` directions of p, (n, 16) in rows of `wide`. */
static void tile(const float *x, i64 i, i64 rows, i64 n, const float *p, i64 wide, float *out, i64 few,
                 i64 c) {
    const float *x0 = row(x, i, rows, n), *x1 = row(x, i + 1, rows, n), *x2 = row(x, i + 2, rows, n),
                *x3 = row(x, i + 3, rows, n), *x4 = row(x, i + 4, rows, n), *x5 = row(x, i + 5, rows, n),
                *x6 = row(x, i + 6, rows, n), *x7 = row(x, i + 7, rows, n);
    /* an array only at its end: else it would not stay in registers */
    lanes s0 = {}, s1 = {}, s2 = {}, s3 = {}, s4 = {}, s5 = {}, s6 = {}, s7 = {};
/* fmadd and not a sum of products, which the compiler would reorder into half as many operations again */
#define ADD(s, x, k) s = _mm512_fmadd_ps(_mm512_set1_ps(x[k]), q, s)
#define STEP(k)                                                                 \
    {                                                                           \
        lanes q = *(const loose *)p;                                            \
        p += wide;                                                              \
        ADD(s0, x0, k), ADD(s1, x1, k), ADD(s2, x2, k), ADD(s3, x3, k);         \
        ADD(s4, x4, k), ADD(s5, x5, k), ADD(s6, x6, k), ADD(s7, x7, k);         \
    }
    i64 k = 0;
    for (; k + WIDE <= n; k += WIDE) {
        const float *next = x + (i + TILE) * n + k;
        for (i64 j = 0; j < TILE; j++, next += n) __builtin_prefetch(next, 0, 2);
#pragma GCC unroll 16
        for (i64 e = 0; e < WIDE; e++) STEP(k + e)
    }
    for (; k < n; k++) STEP(k)
    lanes found[TILE] = {s0, s1, s2, s3, s4, s5, s6, s7};
    for (i64 j = 0; j < least(TILE, rows - i); j++) memcpy(out + (i + j) * c, &found[j], few * sizeof(float));
}

/* Inner products of four rows of a factor (r, n), from i on, with four from j on; half of them where i is j. */
static inline __attribute__((always_inline)) void corner(const float *x, i64 i, i64 j, i64 r, i64 n,
                                                         float *gram, int same) {
    const float *a[SIDE], *b[SIDE];
    lanes sum[SIDE][SIDE] = {0};
    i64 even = n - n % WIDE;
    for (i64 s = 0; s < SIDE; s++) a[s] = row(x, i + s, r, n), b[s] = same ? a[s] : row(x, j + s, r, n);
    for (i64 k = 0; k < even; k += WIDE)
#pragma GCC unroll 4
        for (i64 s = 0; s < SIDE; s++)
#pragma GCC unroll 4
            for (i64 t = 0; t < SIDE; t++)
                if (!same || t <= s) sum[s][t] += *(const loose *)(a[s] + k) * *(const loose *)(b[t] + k);
    for (i64 s = 0; s < least(SIDE, r - i); s++)
        for (i64 t = 0; t < (same ? s + 1 : least(SIDE, r - j)); t++) {
            float whole = 0;
            for (i64 k = even; k < n; k++) whole += a[s][k] * b[t][k];
            for (i64 k = 0; k < WIDE; k++) whole += sum[s][t][k];
            gram[(i + s) * r + j + t] = gram[(j + t) * r + i + s] = whole;
        }
}

static void layer(const float *x, const float *p, i64 wide, float *product, float *gram, i64 b, i64 r, i64 n,
                  i64 c) {
    i64 rows = b * r, known = 0;
    for (i64 i = 0; i < rows; i += TILE) {
        for (i64 d = 0; d < c; d += WIDE)
            tile(x, i, rows, n, p + d, wide, product + d, least(WIDE, c - d), c);
        for (; known < b && (known + 1) * r <= i + TILE; known++)
            for (i64 s = 0; s < r; s += SIDE) {
                for (i64 t = 0; t < s; t += SIDE)
                    corner(x + known * r * n, s, t, r, n, gram + known * r * r, 0);
                corner(x + known * r * n, s, s, r, n, gram + known * r * r, 1);
            }
    }
}

/* `stride` numbers lie between the layers of x. Threads, which are torch's own, take some LoRAs of a layer at a
 * time. Returns 0 where there is no memory for p, filled up to whole lanes. */
int one_read(const float *x, const float *p, float *product, float *gram, i64 l, i64 b, i64 r, i64 n, i64 c,
             i64 stride, i64 threads) {
    i64 wide = (c + WIDE - 1) / WIDE * WIDE, some = (AT_ONCE + r - 1) / r, parts = (b + some - 1) / some;
    int done = 1;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (i64 task = 0; task < l * parts; task++) {
        i64 i = task / parts, first = task % parts * some;
        const float *q = p + i * n * c;
        float *filled = wide == c ? NULL : calloc(n * wide, sizeof(float));
        for (i64 k = 0; filled && k < n; k++) memcpy(filled + k * wide, q + k * c, c * sizeof(float));
        if (wide == c || filled)
            layer(x + i * stride + first * r * n, filled ? filled : q, wide, product + (i * b + first) * r * c,
                  gram + (i * b + first) * r * r, least(some, b - first), r, n, c);
        else
            done = 0;
        free(filled);
    }
    return done;
}
