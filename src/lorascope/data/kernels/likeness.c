/* Likeness of rows of numbers to landmarks, in float64: squared distances, and exponentials of them.
 *
 *     apart: x (b, F), landmarks (M, F)  ->  far (b, M) = |x - x'|^2 / usual
 *     alike: far (count)                 ->  out[j] (count) = exp(-t far) for each of k t
 *
 * Distances by inner products, four rows with four landmarks at once; what is read in float32 is widened once.
 * exp is its series around the nearest power of two (error 1e-15); what is below exp(-708) is that. Compiled for
 * the processor at hand, which has AVX-512 (see models/likeness.py). */
#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;
typedef double lanes __attribute__((vector_size(64), may_alias));
typedef double loose __attribute__((vector_size(64), aligned(8), may_alias));
typedef i64 whole_lanes __attribute__((vector_size(64)));

enum { WIDE = 8, SIDE = 4, BLOCK = 64 /* rows and landmarks of a task */ };

static i64 least(i64 a, i64 b) { return a < b ? a : b; }

/* A row as doubles with zeros up to `wide`; its squared length. */
static double widen(const float *x, i64 f, i64 wide, double *to) {
    double sum = 0;
    for (i64 k = 0; k < f; k++) to[k] = x[k], sum += to[k] * to[k];
    for (i64 k = f; k < wide; k++) to[k] = 0;
    return sum;
}

/* Inner products of four rows of a with four of b. */
static void corner(const double *a, const double *b, i64 wide, double out[SIDE][SIDE]) {
    lanes sum[SIDE][SIDE] = {0};
    for (i64 k = 0; k < wide; k += WIDE)
#pragma GCC unroll 4
        for (i64 s = 0; s < SIDE; s++)
#pragma GCC unroll 4
            for (i64 t = 0; t < SIDE; t++)
                sum[s][t] += *(const lanes *)(a + s * wide + k) * *(const lanes *)(b + t * wide + k);
    for (i64 s = 0; s < SIDE; s++)
        for (i64 t = 0; t < SIDE; t++) {
            double whole = 0;
            for (i64 k = 0; k < WIDE; k++) whole += sum[s][t][k];
            out[s][t] = whole;
        }
}

/* At least 0; in this order it keeps what is no number. */
static double positive(double x) { return _mm_cvtsd_f64(_mm_max_sd(_mm_setzero_pd(), _mm_set_sd(x))); }

/* Distances of `rows` rows from `few` landmarks, those of both in `room` as doubles. */
static void block(const float *x, const float *landmarks, double *far, i64 rows, i64 few, i64 m, i64 f,
                  double usual, i64 wide, double *room) {
    double length[BLOCK], size[SIDE], found[SIDE][SIDE], *other = room + BLOCK * wide;
    for (i64 i = 0; i < BLOCK; i++) length[i] = widen(x + i * f, i < rows ? f : 0, wide, room + i * wide);
    for (i64 j = 0; j < few; j += SIDE) {
        for (i64 t = 0; t < SIDE; t++)
            size[t] = widen(landmarks + (j + t) * f, j + t < few ? f : 0, wide, other + t * wide);
        for (i64 i = 0; i < rows; i += SIDE) {
            corner(room + i * wide, other, wide, found);
            for (i64 s = 0; s < least(SIDE, rows - i); s++)
                for (i64 t = 0; t < least(SIDE, few - j); t++) {
                    double square = length[i + s] + size[t] - 2 * found[s][t];
                    far[(i + s) * m + j + t] = positive(square) / usual;
                }
        }
    }
}

/* Returns 0 where there is no memory for the widened rows. */
int apart(const float *x, const float *landmarks, double *far, i64 b, i64 m, i64 f, double usual,
          i64 threads) {
    i64 wide = (f + WIDE - 1) / WIDE * WIDE, across = (m + BLOCK - 1) / BLOCK;
    int done = 1;
#pragma omp parallel for num_threads(threads)
    for (i64 task = 0; task < (b + BLOCK - 1) / BLOCK * across; task++) {
        i64 i = task / across * BLOCK, j = task % across * BLOCK;
        double *room = aligned_alloc(64, (BLOCK + SIDE) * wide * sizeof(double));
        if (room)
            block(x + i * f, landmarks + j * f, far + i * m + j, least(BLOCK, b - i), least(BLOCK, m - j), m, f,
                  usual, wide, room);
        else
            done = 0;
        free(room);
    }
    return done;
}

/* exp of what is not above 0. */
static inline lanes shrunk(lanes x) {
    x = _mm512_max_pd((lanes){} - 708.0, x); /* in this order it keeps what is no number */
    whole_lanes n = __builtin_convertvector(x * 1.4426950408889634 - 0.5, whole_lanes);
    lanes r = x - __builtin_convertvector(n, lanes) * 0.6931471805599453, sum = r / 479001600.0 + 1 / 39916800.0;
    const double rest[] = {3628800, 362880, 40320, 5040, 720, 120, 24, 6, 2, 1, 1};
#pragma GCC unroll 11
    for (int k = 0; k < 11; k++) sum = sum * r + 1 / rest[k];
    return sum * (lanes)((n + 1023) << 52);
}

void alike(const double *far, double *const *out, const double *t, i64 k, i64 count, i64 threads) {
#pragma omp parallel for num_threads(threads)
    for (i64 first = 0; first < count; first += WIDE) {
        lanes x = {};
        i64 few = least(WIDE, count - first);
        if (few == WIDE)
            x = *(const loose *)(far + first);
        else
            memcpy(&x, far + first, few * sizeof(double));
        for (i64 j = 0; j < k; j++) {
            lanes found = shrunk(-t[j] * x);
            if (few == WIDE)
                *(loose *)(out[j] + first) = found;
            else
                memcpy(out[j] + first, &found, few * sizeof(double));
        }
    }
}
