/* Singular values of products of small square matrices, falling, by one-sided Jacobi: eight side by side.
 *
 *     u, v: (count, r, r)  ->  values: (count, r), those of u v^T        r at most 8
 *
 * Columns of the product are turned against each other, pair by pair, until all are orthogonal; their lengths
 * are the values. Nothing is squared first, so small values keep their digits. Compiled for the processor at
 * hand (see symmetry/small_svd.py). */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t i64;
typedef double lanes __attribute__((vector_size(64)));

enum { WIDE = 8, MOST = 8, SWEEPS = 30 };
static const double ORTHOGONAL = 1e-30, TINY = 1e-300; /* squared cosine; keeps 0 / 0 from being asked */

static lanes root(lanes x) {
    for (int k = 0; k < WIDE; k++) x[k] = sqrt(x[k]);
    return x;
}

static inline __attribute__((always_inline)) lanes dot(const lanes *x, const lanes *y, int r) {
    lanes sum = x[0] * y[0];
    for (int i = 1; i < r; i++) sum += x[i] * y[i];
    return sum;
}

/* Turns columns x and y until they are orthogonal; whether they were not, in any lane. */
static inline __attribute__((always_inline)) int turn(lanes *x, lanes *y, int r) {
    lanes a = dot(x, x, r), b = dot(y, y, r), g = dot(x, y, r), bound = ORTHOGONAL * a * b;
    int turned = 0;
    for (int k = 0; k < WIDE; k++) turned |= g[k] * g[k] > bound[k];
    if (!turned) return 0;
    lanes d = b - a, far = root(d * d + 4 * g * g) + TINY, t;
    for (int k = 0; k < WIDE; k++) t[k] = 2 * g[k] / (d[k] < 0 ? d[k] - far[k] : d[k] + far[k]);
    lanes c = 1 / root(1 + t * t), s = c * t;
    for (int i = 0; i < r; i++) {
        lanes old = x[i];
        x[i] = c * old - s * y[i];
        y[i] = s * old + c * y[i];
    }
    return 1;
}

static inline __attribute__((always_inline)) void values_of(lanes a[MOST][MOST], int r, lanes *values) {
    for (int sweep = 0, turned = 1; turned && sweep < SWEEPS; sweep++) {
        turned = 0;
        for (int i = 0; i < r; i++)
            for (int j = i + 1; j < r; j++) turned |= turn(a[i], a[j], r);
    }
    for (int i = 0; i < r; i++) values[i] = root(dot(a[i], a[i], r));
    for (int i = 0; i < r; i++)
        for (int j = i + 1; j < r; j++) {
            lanes x = values[i], y = values[j];
            for (int k = 0; k < WIDE; k++) {
                values[i][k] = x[k] < y[k] ? y[k] : x[k];
                values[j][k] = x[k] < y[k] ? x[k] : y[k];
            }
        }
}

static inline __attribute__((always_inline)) void some(const double *u, const double *v, double *values, int r,
                                                       int few) {
    lanes left[MOST][MOST] = {0}, right[MOST][MOST] = {0}, columns[MOST][MOST], found[MOST];
    for (int k = 0; k < few; k++)
        for (int i = 0; i < r; i++)
            for (int j = 0; j < r; j++) {
                left[i][j][k] = u[(k * r + i) * r + j];
                right[i][j][k] = v[(k * r + i) * r + j];
            }
    for (int i = 0; i < r; i++)
        for (int j = 0; j < r; j++) columns[j][i] = dot(left[i], right[j], r);
    values_of(columns, r, found);
    for (int k = 0; k < few; k++)
        for (int i = 0; i < r; i++) values[k * r + i] = found[i][k];
}

void small_svd(const double *u, const double *v, double *values, i64 r, i64 count, i64 threads) {
#pragma omp parallel for num_threads(threads)
    for (i64 first = 0; first < count; first += WIDE) {
        int few = count - first < WIDE ? (int)(count - first) : WIDE;
        i64 at = first * r * r;
        if (r == 4) /* so usual that its loops are unrolled */
            some(u + at, v + at, values + first * r, 4, few);
        else
            some(u + at, v + at, values + first * r, (int)r, few);
    }
}
