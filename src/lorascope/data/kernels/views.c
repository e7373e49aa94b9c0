/* Views of the layers of one shape group: what is seen along directions, at unit norm, laid out by LoRA.
 *
 *     x: (l, b, r, c), y: (l, b, r, d);  u, v: (l, b, r, r) roots;  inverse, root: (l, b) weights
 *     core[b, l] = inverse x^T y,   left[b, l] = the half of z^T z, z = root v x,   right: of root u y
 *
 * Rows of core, left and right are `wide` numbers apart: those of all groups. Of z^T z the upper triangle is kept,
 * what is beside the diagonal times the root of 2. At most MOST rows and WIDEST directions. Compiled for the
 * processor at hand, which has AVX-512 (see models/views.py). */
#include <immintrin.h>
#include <stdint.h>

typedef int64_t i64;
typedef __m512 lanes;

enum { WIDE = 16, MOST = 16, WIDEST = 48 };
#define INLINE static inline __attribute__((always_inline))

/* Lanes of the numbers from i on, of c in all. */
INLINE __mmask16 from(i64 i, i64 c) { return c - i < WIDE ? (1 << (c - i)) - 1 : 0xffff; }

/* scale times the r rows of z, and beside them their products with the r x r matrix `turn`. */
INLINE void turned(float z[MOST][WIDEST], const float *x, const double *turn, double scale, int r, i64 c) {
    for (i64 j = 0; j < c; j += WIDE) {
        lanes rows[MOST];
        for (int m = 0; m < r; m++) rows[m] = _mm512_maskz_loadu_ps(from(j, c), x + m * c + j);
        for (int k = 0; k < r; k++) {
            lanes sum = (float)(turn[k * r] * scale) * rows[0];
            for (int m = 1; m < r; m++) sum += (float)(turn[k * r + m] * scale) * rows[m];
            _mm512_storeu_ps(z[k] + j, sum);
        }
    }
}

/* The upper triangle of z^T z. */
INLINE void square(const float *x, const double *turn, double scale, float *out, int r, i64 c) {
    float z[MOST][WIDEST];
    lanes beside = (lanes){} + 1.41421356f, first = beside;
    first[0] = 1;
    turned(z, x, turn, scale, r, c);
    for (i64 i = 0; i < c; out += c - i, i++)
        for (i64 j = i; j < c; j += WIDE) {
            __mmask16 mask = from(j, c);
            lanes sum = {};
            for (int k = 0; k < r; k++) sum += z[k][i] * _mm512_maskz_loadu_ps(mask, z[k] + j);
            _mm512_mask_storeu_ps(out + j - i, mask, sum * (j == i ? first : beside));
        }
}

INLINE void product(const float *x, const float *y, float scale, float *out, int r, i64 c, i64 d) {
    for (i64 j = 0; j < d; j += WIDE) {
        __mmask16 mask = from(j, d);
        lanes rows[MOST];
        for (int k = 0; k < r; k++) rows[k] = scale * _mm512_maskz_loadu_ps(mask, y + k * d + j);
        for (i64 i = 0; i < c; i++) {
            lanes sum = x[i] * rows[0];
            for (int k = 1; k < r; k++) sum += x[k * c + i] * rows[k];
            _mm512_mask_storeu_ps(out + i * d + j, mask, sum);
        }
    }
}

typedef struct {
    const float *x, *y;
    const double *u, *v, *inverse, *root;
    float *core, *left, *right;
} Places;

INLINE void view(Places at, int r, i64 c, i64 d) {
    product(at.x, at.y, (float)*at.inverse, at.core, r, c, d);
    square(at.x, at.v, *at.root, at.left, r, c);
    square(at.y, at.u, *at.root, at.right, r, d);
}

void views(const float *x, const float *y, const double *u, const double *v, const double *inverse,
           const double *root, float *core, float *left, float *right, i64 l, i64 b, i64 r, i64 c, i64 d,
           i64 core_wide, i64 left_wide, i64 right_wide, i64 threads) {
#pragma omp parallel for num_threads(threads)
    for (i64 row = 0; row < b; row++)
        for (i64 i = 0; i < l; i++) {
            i64 one = i * b + row;
            Places at = {x + one * r * c, y + one * r * d, u + one * r * r, v + one * r * r, inverse + one,
                         root + one, core + row * core_wide + i * c * d,
                         left + row * left_wide + i * (c * (c + 1) / 2),
                         right + row * right_wide + i * (d * (d + 1) / 2)};
            if (r == 4 && c == 16 && d == 16) /* so usual that its loops are unrolled */
                view(at, 4, 16, 16);
            else if (r == 4)
                view(at, 4, c, d);
            else
                view(at, (int)r, c, d);
        }
}
