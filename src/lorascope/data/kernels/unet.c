/* The element-wise parts of a UNet for training many adapters: norms, attention over few places, gates.
 *
 * Tensors lie with channels last; `half` says whether they are bfloat16 or float32, sums are float32.
 * Frozen weights get no gradient. Compiled once for the processor at hand (see quick.py).
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;

static inline float widen(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, 4);
    return y;
}

static inline uint16_t narrow(float x) { /* to the nearest, ties to even; NaN stays NaN */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    uint32_t nan = (bits & 0x7fffffffu) > 0x7f800000u;
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (uint16_t)(nan ? 0x7fc0u : rounded);
}

static void load(float *to, const void *from, i64 at, i64 count, int half) {
    if (half) {
        const uint16_t *x = (const uint16_t *)from + at;
        for (i64 i = 0; i < count; i++) to[i] = widen(x[i]);
    } else {
        memcpy(to, (const float *)from + at, count * sizeof(float));
    }
}

static void save(void *to, i64 at, const float *from, i64 count, int half) {
    if (half) {
        uint16_t *y = (uint16_t *)to + at;
        for (i64 i = 0; i < count; i++) y[i] = narrow(from[i]);
    } else {
        memcpy((float *)to + at, from, count * sizeof(float));
    }
}

/* Sums over places and over the channels of a group, spread over the group's channels again. */
static void group_means(float *sums, i64 c, i64 groups, float count) {
    i64 width = c / groups;
    for (i64 g = 0; g < groups; g++) {
        float total = 0;
        for (i64 i = 0; i < width; i++) total += sums[g * width + i];
        total /= count;
        for (i64 i = 0; i < width; i++) sums[g * width + i] = total;
    }
}

/* Group norm of n images of p places, then silu if asked. mean, rate: (n, c), kept for the backward. */
void group_norm(const void *x, void *y, const float *w, const float *b, float *mean, float *rate,
                i64 n, i64 p, i64 c, i64 groups, float epsilon, int silu, int half) {
    float *in = malloc(2 * p * c * sizeof(float)), *out = in + p * c;
    float count = (float)(p * (c / groups));
    for (i64 k = 0; k < n; k++) {
        float *m = mean + k * c, *r = rate + k * c;
        load(in, x, k * p * c, p * c, half);
        memset(m, 0, c * sizeof(float));
        memset(r, 0, c * sizeof(float));
        for (i64 i = 0; i < p; i++)
            for (i64 j = 0; j < c; j++) m[j] += in[i * c + j];
        group_means(m, c, groups, count);
        for (i64 i = 0; i < p; i++)
            for (i64 j = 0; j < c; j++) {
                float d = in[i * c + j] - m[j];
                r[j] += d * d;
            }
        group_means(r, c, groups, count);
        for (i64 j = 0; j < c; j++) r[j] = 1.0f / sqrtf(r[j] + epsilon);
        for (i64 i = 0; i < p; i++)
            for (i64 j = 0; j < c; j++) {
                float z = (in[i * c + j] - m[j]) * r[j] * w[j] + b[j];
                out[i * c + j] = silu ? z / (1.0f + expf(-z)) : z;
            }
        save(y, k * p * c, out, p * c, half);
    }
    free(in);
}

void group_norm_backward(const void *x, const void *gy, void *gx, const float *w, const float *b,
                         const float *mean, const float *rate, i64 n, i64 p, i64 c, i64 groups,
                         int silu, int half) {
    float *in = malloc((2 * p * c + 2 * c) * sizeof(float));
    float *g = in + p * c, *first = g + p * c, *second = first + c;
    float count = (float)(p * (c / groups));
    for (i64 k = 0; k < n; k++) {
        const float *m = mean + k * c, *r = rate + k * c;
        load(in, x, k * p * c, p * c, half);
        load(g, gy, k * p * c, p * c, half);
        memset(first, 0, 2 * c * sizeof(float));
        for (i64 i = 0; i < p; i++)
            for (i64 j = 0; j < c; j++) {
                float hat = (in[i * c + j] - m[j]) * r[j], d = g[i * c + j];
                if (silu) {
                    float z = hat * w[j] + b[j], s = 1.0f / (1.0f + expf(-z));
                    d *= s * (1.0f + z * (1.0f - s));
                }
                d *= w[j];
                first[j] += d;
                second[j] += d * hat;
                in[i * c + j] = hat;
                g[i * c + j] = d;
            }
        group_means(first, c, groups, count);
        group_means(second, c, groups, count);
        for (i64 i = 0; i < p; i++)
            for (i64 j = 0; j < c; j++)
                g[i * c + j] = r[j] * (g[i * c + j] - first[j] - in[i * c + j] * second[j]);
        save(gx, k * p * c, g, p * c, half);
    }
    free(in);
}

/* Layer norm of n rows. mean, rate: (n,). */
void layer_norm(const void *x, void *y, const float *w, const float *b, float *mean, float *rate,
                i64 n, i64 c, float epsilon, int half) {
    float *in = malloc(c * sizeof(float));
    for (i64 k = 0; k < n; k++) {
        float m = 0, v = 0;
        load(in, x, k * c, c, half);
        for (i64 j = 0; j < c; j++) m += in[j];
        m /= c;
        for (i64 j = 0; j < c; j++) v += (in[j] - m) * (in[j] - m);
        float r = 1.0f / sqrtf(v / c + epsilon);
        for (i64 j = 0; j < c; j++) in[j] = (in[j] - m) * r * w[j] + b[j];
        save(y, k * c, in, c, half);
        mean[k] = m;
        rate[k] = r;
    }
    free(in);
}

void layer_norm_backward(const void *x, const void *gy, void *gx, const float *w, const float *mean,
                         const float *rate, i64 n, i64 c, int half) {
    float *in = malloc(2 * c * sizeof(float)), *g = in + c;
    for (i64 k = 0; k < n; k++) {
        float first = 0, second = 0, r = rate[k], m = mean[k];
        load(in, x, k * c, c, half);
        load(g, gy, k * c, c, half);
        for (i64 j = 0; j < c; j++) {
            in[j] = (in[j] - m) * r;
            g[j] *= w[j];
            first += g[j];
            second += g[j] * in[j];
        }
        first /= c;
        second /= c;
        for (i64 j = 0; j < c; j++) g[j] = r * (g[j] - first - in[j] * second);
        save(gx, k * c, g, c, half);
    }
    free(in);
}

/* Normal distribution function, by Abramowitz and Stegun 7.1.26 (error 1.5e-7); density beside it. */
static inline float normal(float z, float *density) {
    float a = fabsf(z) * 0.70710678f, t = 1.0f / (1.0f + 0.3275911f * a), e = expf(-a * a);
    float tail = e * t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f +
                 t * (-1.453152027f + t * 1.061405429f))));
    *density = 0.39894228f * e;
    return z < 0 ? 0.5f * tail : 1.0f - 0.5f * tail;
}

/* First half times gelu of the second half, of n rows; bias (2 c) is added before. x: (n, 2 c) -> (n, c). */
void gate(const void *x, const float *bias, void *y, i64 n, i64 c, int half) {
    float *in = malloc(2 * c * sizeof(float));
    for (i64 k = 0; k < n; k++) {
        load(in, x, 2 * k * c, 2 * c, half);
        for (i64 j = 0; j < c; j++) {
            float density, z = in[c + j] + bias[c + j];
            in[j] = (in[j] + bias[j]) * z * normal(z, &density);
        }
        save(y, k * c, in, c, half);
    }
    free(in);
}

void gate_backward(const void *x, const float *bias, const void *gy, void *gx, i64 n, i64 c,
                   int half) {
    float *in = malloc(3 * c * sizeof(float)), *g = in + 2 * c;
    for (i64 k = 0; k < n; k++) {
        load(in, x, 2 * k * c, 2 * c, half);
        load(g, gy, k * c, c, half);
        for (i64 j = 0; j < c; j++) {
            float density, z = in[c + j] + bias[c + j], f = normal(z, &density);
            float a = in[j] + bias[j];
            in[j] = g[j] * z * f;
            in[c + j] = g[j] * a * (f + z * density);
        }
        save(gx, 2 * k * c, in, 2 * c, half);
    }
    free(in);
}

/* B (n, r) as rows of n. */
static void turn(float *to, const float *from, i64 n, i64 r) {
    for (i64 k = 0; k < r; k++)
        for (i64 j = 0; j < n; j++) to[k * n + j] = from[j * r + k];
}

/* What s adapters add to a linear layer: y += B (A x), t rows each. x: (s, t, m), y: (s, t, n);
 * A: (s, r, m), a numbers apart, B: (s, n, r), b apart; low = A x is kept for the backward. */
void adapt(const void *x, void *y, const float *A, const float *B, float *low, i64 s, i64 t, i64 m,
           i64 n, i64 r, i64 a, i64 b, int half) {
    float *in = malloc((m + n + r * n) * sizeof(float)), *out = in + m, *T = out + n;
    for (i64 i = 0; i < s; i++, A += a, B += b) {
        turn(T, B, n, r);
        for (i64 row = i * t; row < (i + 1) * t; row++) {
            load(in, x, row * m, m, half);
            load(out, y, row * n, n, half);
            for (i64 k = 0; k < r; k++) {
                float sum = 0;
                for (i64 j = 0; j < m; j++) sum += A[k * m + j] * in[j];
                for (i64 j = 0; j < n; j++) out[j] += sum * T[k * n + j];
                low[row * r + k] = sum;
            }
            save(y, row * n, out, n, half);
        }
    }
    free(in);
}

/* The gradients of A and B, and what the adapters add to that of x, unless gx is null. */
void adapt_backward(const void *x, const void *gy, void *gx, const float *A, const float *B,
                    const float *low, float *gA, float *gB, i64 s, i64 t, i64 m, i64 n, i64 r, i64 a,
                    i64 b, int half) {
    float *in = malloc((2 * m + n + 2 * r * n) * sizeof(float)), *out = in + m, *g = out + m;
    float *T = g + n, *S = T + r * n;
    for (i64 i = 0; i < s; i++, A += a, B += b, gA += r * m, gB += r * n) {
        turn(T, B, n, r);
        memset(S, 0, r * n * sizeof(float));
        memset(gA, 0, r * m * sizeof(float));
        for (i64 row = i * t; row < (i + 1) * t; row++) {
            load(in, x, row * m, m, half);
            load(g, gy, row * n, n, half);
            if (gx) load(out, gx, row * m, m, half);
            for (i64 k = 0; k < r; k++) {
                float sum = 0, l = low[row * r + k];
                for (i64 j = 0; j < n; j++) sum += T[k * n + j] * g[j];
                for (i64 j = 0; j < n; j++) S[k * n + j] += l * g[j];
                for (i64 j = 0; j < m; j++) gA[k * m + j] += sum * in[j];
                for (i64 j = 0; gx && j < m; j++) out[j] += sum * A[k * m + j];
            }
            if (gx) save(gx, row * m, out, m, half);
        }
        turn(gB, S, r, n);
    }
    free(in);
}

/* Small matrices lie in rows of whole vectors: widths are rounded up, what is beyond is zero. */
#define WIDE 16
static i64 wide(i64 n) { return (n + WIDE - 1) / WIDE * WIDE; }

/* One head of rows of c channels as floats (t, wide d), and turned (d, wide t) if asked. */
static void load_head(float *to, float *turned, const void *from, i64 at, i64 t, i64 c, i64 d,
                      int half) {
    i64 dw = wide(d), tw = wide(t);
    for (i64 i = 0; i < t; i++) load(to + i * dw, from, at + i * c, d, half);
    if (turned)
        for (i64 j = 0; j < d; j++)
            for (i64 i = 0; i < t; i++) turned[j * tw + i] = to[i * dw + j];
}

/* out (n, m) = scale a b with a[i, l] = a[i * down + l * right], b (k, m); m a multiple of WIDE. */
static void product(float *out, const float *a, i64 down, i64 right, const float *b, i64 n, i64 k,
                    i64 m, float scale) {
    for (i64 j = 0; j < m; j += WIDE) {
        i64 i = 0;
        for (; i + 4 <= n; i += 4) {
            float r0[WIDE] = {0}, r1[WIDE] = {0}, r2[WIDE] = {0}, r3[WIDE] = {0};
            const float *x = a + i * down;
            for (i64 l = 0; l < k; l++, x += right) {
                const float *y = b + l * m + j;
                float x0 = x[0], x1 = x[down], x2 = x[2 * down], x3 = x[3 * down];
                for (int w = 0; w < WIDE; w++) {
                    r0[w] += x0 * y[w];
                    r1[w] += x1 * y[w];
                    r2[w] += x2 * y[w];
                    r3[w] += x3 * y[w];
                }
            }
            float *to = out + i * m + j;
            for (int w = 0; w < WIDE; w++) {
                to[w] = scale * r0[w];
                to[m + w] = scale * r1[w];
                to[2 * m + w] = scale * r2[w];
                to[3 * m + w] = scale * r3[w];
            }
        }
        for (; i < n; i++) {
            float r[WIDE] = {0};
            for (i64 l = 0; l < k; l++)
                for (int w = 0; w < WIDE; w++) r[w] += a[i * down + l * right] * b[l * m + j + w];
            for (int w = 0; w < WIDE; w++) out[i * m + j + w] = scale * r[w];
        }
    }
}

/* Rows of n x m, which lie `step` apart. */
static void softmax(float *p, i64 n, i64 m, i64 step) {
    for (i64 i = 0; i < n; i++) {
        float *row = p + i * step, top = row[0], total = 0;
        for (i64 j = 1; j < m; j++) top = row[j] > top ? row[j] : top;
        for (i64 j = 0; j < m; j++) row[j] = expf(row[j] - top);
        for (i64 j = 0; j < m; j++) total += row[j];
        total = 1.0f / total;
        for (i64 j = 0; j < m; j++) row[j] *= total;
    }
}

/* Attention of s x b rows of t places to u places of text which[row] of e. q: (s, b, t, c),
 * k, v: (s, e, u, c), y as q; heads of d channels. */
void attend(const void *q, const void *k, const void *v, const i64 *which, void *y, i64 s, i64 b,
            i64 e, i64 t, i64 u, i64 c, i64 heads, float scale, int half) {
    i64 d = c / heads, dw = wide(d), uw = wide(u);
    float *Q = calloc(2 * t * dw + 2 * u * dw + d * uw + t * uw, sizeof(float)), *O = Q + t * dw;
    float *K = O + t * dw, *V = K + u * dw, *T = V + u * dw, *P = T + d * uw;
    i64 last = -1; /* neighbours often see the same text */
    for (i64 h = 0; h < heads; h++)
        for (i64 row = 0; row < s * b; row++) {
            i64 at = row * t * c + h * d, from = ((row / b) * e + which[row % b]) * u * c + h * d;
            load_head(Q, 0, q, at, t, c, d, half);
            if (from != last) {
                load_head(K, T, k, from, u, c, d, half);
                load_head(V, 0, v, from, u, c, d, half);
            }
            last = from;
            product(P, Q, dw, 1, T, t, d, uw, scale);
            softmax(P, t, u, uw);
            product(O, P, uw, 1, V, t, u, dw, 1.0f);
            for (i64 i = 0; i < t; i++) save(y, at + i * c, O + i * dw, d, half);
        }
    free(Q);
}

static void add_head(float *to, const float *from, i64 u, i64 c, i64 d) {
    for (i64 j = 0; j < u; j++)
        for (i64 l = 0; l < d; l++) to[j * c + l] += from[j * wide(d) + l];
}

/* The gradients; those of k and v are summed over rows into float32. */
void attend_backward(const void *q, const void *k, const void *v, const i64 *which, const void *gy,
                     void *gq, float *gk, float *gv, i64 s, i64 b, i64 e, i64 t, i64 u, i64 c,
                     i64 heads, float scale, int half) {
    i64 d = c / heads, dw = wide(d), uw = wide(u);
    float *Q = calloc(3 * t * dw + 3 * u * dw + 2 * d * uw + 2 * t * uw, sizeof(float));
    float *G = Q + t * dw, *O = G + t * dw, *K = O + t * dw, *V = K + u * dw, *R = V + u * dw;
    float *T = R + u * dw, *W = T + d * uw, *P = W + d * uw, *D = P + t * uw;
    for (i64 row = 0; row < s * b; row++)
        for (i64 h = 0; h < heads; h++) {
            i64 at = row * t * c + h * d, from = ((row / b) * e + which[row % b]) * u * c + h * d;
            load_head(Q, 0, q, at, t, c, d, half);
            load_head(G, 0, gy, at, t, c, d, half);
            load_head(K, T, k, from, u, c, d, half);
            load_head(V, W, v, from, u, c, d, half);
            product(P, Q, dw, 1, T, t, d, uw, scale);
            softmax(P, t, u, uw);
            product(R, P, 1, uw, G, u, t, dw, 1.0f);
            add_head(gv + from, R, u, c, d);
            product(D, G, dw, 1, W, t, d, uw, 1.0f);
            for (i64 i = 0; i < t; i++) {
                float total = 0, *p = P + i * uw, *g = D + i * uw;
                for (i64 j = 0; j < u; j++) total += p[j] * g[j];
                for (i64 j = 0; j < uw; j++) g[j] = scale * p[j] * (g[j] - total);
            }
            product(O, D, uw, 1, K, t, u, dw, 1.0f);
            for (i64 i = 0; i < t; i++) save(gq, at + i * c, O + i * dw, d, half);
            product(R, D, 1, uw, Q, u, t, dw, 1.0f);
            add_head(gk + from, R, u, c, d);
        }
    free(Q);
}
