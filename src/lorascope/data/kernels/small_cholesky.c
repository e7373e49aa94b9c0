/* Cholesky factors of many small Gram matrices, rows at unit length: eight matrices side by side.
 *
 *     a: (count, r, r)  ->  upper: (count, r, r) with upper^T upper = a,  safe: (count)        r at most 8
 *
 * `span` is the diagonal of the inverse: 1 / d^2 of each row, d its distance from the span of the others. A row
 * of zeros is a column of zeros. What is no number is not safe: bits are compared, as the compiler may take
 * numbers for finite. Compiled for the processor at hand (see symmetry/small_cholesky.py). */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t i64;
typedef double lanes __attribute__((vector_size(64)));
typedef uint64_t bits __attribute__((vector_size(64)));

enum { WIDE = 8, MOST = 8 };

static lanes root(lanes x) {
    for (int k = 0; k < WIDE; k++) x[k] = sqrt(x[k]);
    return x;
}

static bits bits_of(double x) {
    uint64_t word;
    memcpy(&word, &x, sizeof word);
    return (bits){} + word;
}

/* The lower factor in place of a matrix, and the diagonal of its inverse. */
static inline __attribute__((always_inline)) void eliminate(lanes a[MOST][MOST], int r, lanes *span) {
    lanes turned[MOST][MOST]; /* the inverse of the factor */
    for (int k = 0; k < r; k++) span[k] = (lanes){};
    for (int k = 0; k < r; k++) {
        lanes pivot = 1 / root(a[k][k]);
        for (int i = k; i < r; i++) a[i][k] *= pivot;
        for (int i = k + 1; i < r; i++)
            for (int j = k + 1; j <= i; j++) a[i][j] -= a[i][k] * a[j][k];
        turned[k][k] = pivot;
        for (int j = 0; j < k; j++) {
            lanes sum = a[k][j] * turned[j][j];
            for (int m = j + 1; m < k; m++) sum += a[k][m] * turned[m][j];
            turned[k][j] = -pivot * sum;
        }
        for (int j = 0; j <= k; j++) span[j] += turned[k][j] * turned[k][j];
    }
}

static inline __attribute__((always_inline)) void some(const double *a, double *upper, uint8_t *safe, int r,
                                                       int few, double farthest, double smallest) {
    lanes even[MOST][MOST] = {0}, length[MOST], inverse[MOST], span[MOST];
    for (int k = 0; k < few; k++)
        for (int i = 0; i < r; i++)
            for (int j = 0; j <= i; j++) even[i][j][k] = a[(k * r + i) * r + j];
    bits good = ~(bits){};
    for (int i = 0; i < r; i++) {
        bits square = (bits)even[i][i], there = (bits)(square != 0);
        length[i] = root(even[i][i]);
        inverse[i] = (lanes)((bits)(1 / length[i]) & there);
        good &= ~there | ((bits)length[i] > bits_of(smallest) & (bits)length[i] < bits_of(INFINITY));
    }
    for (int i = 0; i < r; i++) {
        for (int j = 0; j < i; j++) even[i][j] *= inverse[i] * inverse[j];
        even[i][i] = (lanes){} + 1.0;
    }
    eliminate(even, r, span);
    for (int i = 0; i < r; i++) good &= (bits)span[i] <= bits_of(farthest);
    for (int i = 0; i < r; i++)
        for (int j = 0; j <= i; j++) even[i][j] *= length[i];
    for (int k = 0; k < few; k++) {
        safe[k] = good[k] & 1;
        for (int j = 0; j < r; j++)
            for (int i = 0; i < r; i++) upper[(k * r + j) * r + i] = i < j ? 0 : even[i][j][k];
    }
}

void small_cholesky(const double *a, double *upper, uint8_t *safe, i64 r, i64 count, double farthest,
                    double smallest, i64 threads) {
#pragma omp parallel for num_threads(threads)
    for (i64 first = 0; first < count; first += WIDE) {
        int few = count - first < WIDE ? (int)(count - first) : WIDE;
        i64 at = first * r * r;
        if (r == 4) /* so usual that its loops are unrolled */
            some(a + at, upper + at, safe + first, 4, few, farthest, smallest);
        else
            some(a + at, upper + at, safe + first, (int)r, few, farthest, smallest);
    }
}
