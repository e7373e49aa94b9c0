/* What the kernels share: vectors, a product in registers, exp. In float32.
 *
 * Included once by each source, which is compiled alone.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;

#ifdef __AVX512F__
#define LANES 8
#define WIDE 16
#else
#define LANES 8
#define WIDE 8
#endif
typedef float wide __attribute__((vector_size(4 * WIDE), aligned(4), may_alias));
typedef float half __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static float *room(i64 count) { return aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64); }

/* PLACES places times COUNT vectors of outputs, summed over taps and inputs in registers. */
#define TILE(NAME, VEC, PLACES, COUNT)                                                            \
    static void NAME(float *const *to, const float *const *from, const i64 *taps, i64 count,      \
                     const float *W, i64 across, const float *first, i64 c) {                     \
        const i64 step = sizeof(VEC) / sizeof(float);                                             \
        VEC sum[PLACES][COUNT];                                                                   \
        for (int p = 0; p < PLACES; p++)                                                          \
            for (int v = 0; v < COUNT; v++)                                                       \
                sum[p][v] = *(const VEC *)((first ? first : to[p]) + step * v);                   \
        for (i64 t = 0; t < count; t++) {                                                         \
            const float *x[PLACES];                                                               \
            for (int p = 0; p < PLACES; p++) x[p] = from[p] + taps[t];                            \
            for (i64 k = 0; k < c; k++, W += across) {                                            \
                VEC row[COUNT];                                                                   \
                for (int v = 0; v < COUNT; v++) row[v] = *(const VEC *)(W + step * v);            \
                for (int p = 0; p < PLACES; p++)                                                  \
                    for (int v = 0; v < COUNT; v++) sum[p][v] += x[p][k] * row[v];                \
            }                                                                                     \
        }                                                                                         \
        for (int p = 0; p < PLACES; p++)                                                          \
            for (int v = 0; v < COUNT; v++) *(VEC *)(to[p] + step * v) = sum[p][v];               \
    }

#ifdef __AVX512F__ /* as many sums as there are registers, and as few loads as that leaves */
#define MOST 8
TILE(tile_four, wide, 4, 4)
TILE(tile_two, wide, 8, 2)
TILE(tile_one, wide, 8, 1)
TILE(tile_half, half, 8, 1)
#else
#define MOST 4
TILE(tile_two, wide, 4, 2)
TILE(tile_one, wide, 4, 1)
#endif

/* Where a product reads and writes: row q of x at from + (q / w) line + (q % w) c, of y at to + q step. */
typedef struct {
    float *to;
    const float *from;
    i64 rows, step, w, line, c;
} Rows;

/* How many outputs are made at once where so many are left: a multiple of LANES. */
static inline i64 width_of(i64 left) {
#ifdef __AVX512F__
    return left >= 4 * WIDE ? 4 * WIDE : left >= 2 * WIDE ? 2 * WIDE : left >= WIDE ? WIDE : LANES;
#else
    return left >= 2 * WIDE ? 2 * WIDE : WIDE;
#endif
}

/* y (rows, d) = first + sum over taps and c inputs of x W, W (taps, c, d) with rows `across` apart; without
 * `first` it is added to y. Rows beyond the last are that one again. With `across` 0 W is packed (`pack`). */
static void multiply(Rows r, const float *W, i64 across, const float *first, i64 d, const i64 *taps,
                     i64 count) {
    for (i64 j = 0, width; j < d; j += width) {
        width = width_of(d - j);
        i64 tile = width == 4 * WIDE ? 4 : MOST, apart = across ? across : width;
        const float *part = across ? W + j : W + j * r.c * count;
        i64 place = 0, inside = 0;
        const float *line = r.from;
        for (i64 at = 0; at < r.rows; at += tile) {
            const float *from[MOST];
            float *to[MOST];
            for (i64 p = 0; p < tile; p++) {
                from[p] = line + inside * r.c;
                to[p] = r.to + place * r.step + j;
                if (place + 1 == r.rows) continue;
                place++;
                if (++inside == r.w) inside = 0, line += r.line;
            }
            const float *start = first ? first + j : 0;
#ifdef __AVX512F__
            if (width == 4 * WIDE)
                tile_four(to, from, taps, count, part, apart, start, r.c);
            else if (width == LANES)
                tile_half(to, from, taps, count, part, apart, start, r.c);
            else
#endif
            if (width == 2 * WIDE)
                tile_two(to, from, taps, count, part, apart, start, r.c);
            else
                tile_one(to, from, taps, count, part, apart, start, r.c);
        }
    }
}

/* exp by its series around the nearest power of two (error 2e-7); beyond +-87 it is that of 87. */
#define EXP(NAME, VEC, INT)                                                                       \
    static inline VEC NAME(VEC x) {                                                               \
        INT low = x < -87.0f, high = x > 87.0f;                                                   \
        x = (VEC)(((INT)x & ~(low | high)) | (low & (INT)((VEC){} - 87.0f)) |                     \
                  (high & (INT)((VEC){} + 87.0f)));                                               \
        INT n = __builtin_convertvector(x * 1.44269504f + 1024.5f, INT) - 1024;                   \
        VEC whole = __builtin_convertvector(n, VEC);                                              \
        VEC r = x - whole * 0.693145752f - whole * 1.42860677e-6f;                                \
        VEC sum = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666657f + r * (0.0416657776f +         \
                  r * (0.00833345205f + r * 0.00139304355f)))));                                  \
        return sum * (VEC)((n + 127) << 23);                                                      \
    }
typedef int32_t wide_int __attribute__((vector_size(4 * WIDE)));
typedef int32_t half_int __attribute__((vector_size(4 * LANES)));

/* CALL(wide) or CALL(half) for the numbers from j on, for all of c. */
#define EACH(CALL, c)                                                                             \
    for (i64 j = 0; j < (c); j += j + WIDE <= (c) ? WIDE : LANES) {                               \
        if (j + WIDE <= (c)) CALL(wide);                                                          \
        else CALL(half);                                                                          \
    }
