/* Singular values of many small square matrices, falling, by one-sided Jacobi: eight matrices side by side.
 *
 *     a: (r, r, count)  ->  values: (r, count)        r at most 8
 *
 * Columns are turned against each other, pair by pair, until all are orthogonal; their lengths are the values.
 * Nothing is squared first, so small values keep their digits. Compiled for the processor at hand (see
 * symmetry/small_svd.py). */
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

static lanes dot(const lanes *x, const lanes *y, int r) {
    lanes sum = x[0] * y[0];
    for (int i = 1; i < r; i++) sum += x[i] * y[i];
    return sum;
}

/* Turns columns x and y until they are orthogonal; whether they were not, in any lane. */
static int turn(lanes *x, lanes *y, int r) {
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

static void values_of(lanes a[MOST][MOST], int r, lanes *values) {
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

void small_svd(const double *a, double *values, i64 r, i64 count, i64 threads) {
#pragma omp parallel for num_threads(threads)
    for (i64 first = 0; first < count; first += WIDE) {
        i64 few = count - first < WIDE ? count - first : WIDE;
        lanes columns[MOST][MOST], found[MOST];
        memset(columns, 0, sizeof columns);
        for (i64 i = 0; i < r; i++)
            for (i64 j = 0; j < r; j++)
                memcpy(&columns[j][i], a + (i * r + j) * count + first, few * sizeof(double));
        values_of(columns, (int)r, found);
        for (i64 i = 0; i < r; i++) memcpy(values + i * count + first, &found[i], few * sizeof(double));
    }
}
