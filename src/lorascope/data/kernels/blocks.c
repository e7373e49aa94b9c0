/* Whole blocks of a UNet, picture by picture: a resnet forward and backward, a transformer forward.
 *
 * All that lies between two layers of a picture stays in the processor's cache: it is never a tensor. In
 * float32, channels last; weights of a k x k convolution are (k k, c, d). Widths d are multiples of LANES.
 */
#include "tiles.h"

/* y (h w, d) = first + the convolution of a picture with a frame of k / 2 empty places. */
static void convolve(float *y, const float *x, const float *W, const float *first, i64 h, i64 w,
                     i64 c, i64 d, i64 k) {
    i64 taps[9], line = (w + k - 1) * c;
    for (i64 i = 0; i < k * k; i++) taps[i] = i / k * line + i % k * c;
    multiply((Rows){y, x, h * w, d, w, line, c}, W, d, first, d, taps, k * k);
}

/* Sums over the channels of each group, divided by `count`, spread over the channels again. */
static void group_means(float *sums, i64 c, i64 groups, float count) {
    i64 width = c / groups;
    for (i64 g = 0; g < groups; g++) {
        float total = 0;
        for (i64 i = 0; i < width; i++) total += sums[g * width + i];
        for (i64 i = 0; i < width; i++) sums[g * width + i] = total / count;
    }
}

/* Norms of some neighbouring channels, as many as a vector has: their sums over the places (and of the squares
 * around a mean), the norm with its silu inside a frame, and the two passes of its gradient. */
#define NORM(NAME, VEC, INT)                                                                      \
    EXP(exp_##NAME, VEC, INT)                                                                     \
    static void sums_##NAME(const float *x, const float *mean, float *to, i64 p, i64 c) {         \
        VEC sum = {}, middle = {};                                                                \
        if (mean) middle = *(const VEC *)mean;                                                    \
        for (i64 i = 0; mean && i < p; i++) {                                                     \
            VEC d = *(const VEC *)(x + i * c) - middle;                                           \
            sum += d * d;                                                                         \
        }                                                                                         \
        for (i64 i = 0; !mean && i < p; i++) sum += *(const VEC *)(x + i * c);                    \
        *(VEC *)to = sum;                                                                         \
    }                                                                                             \
    static void norm_##NAME(float *to, const float *x, const float *kept, const float *weight,    \
                            const float *bias, i64 h, i64 w, i64 c) {                             \
        VEC gain = *(const VEC *)(kept + c) * *(const VEC *)weight;                               \
        VEC shift = *(const VEC *)bias - *(const VEC *)kept * gain;                               \
        for (i64 r = 0; r < h; r++)                                                               \
            for (i64 i = 0; i < w; i++) {                                                         \
                VEC z = *(const VEC *)(x + (r * w + i) * c) * gain + shift;                       \
                *(VEC *)(to + ((r + 1) * (w + 2) + i + 1) * c) = z / (1.0f + exp_##NAME(-z));     \
            }                                                                                     \
    }                                                                                             \
    static void first_##NAME(float *g, const float *x, float *kept, const float *weight,          \
                             const float *bias, i64 p, i64 c) {                                   \
        VEC mean = *(const VEC *)kept, rate = *(const VEC *)(kept + c), first = {}, second = {};  \
        VEC by = *(const VEC *)weight, plus = *(const VEC *)bias;                                 \
        for (i64 i = 0; i < p; i++) {                                                             \
            VEC hat = (*(const VEC *)(x + i * c) - mean) * rate, z = hat * by + plus;             \
            VEC s = 1.0f / (1.0f + exp_##NAME(-z));                                               \
            VEC d = *(VEC *)(g + i * c) * s * (1.0f + z * (1.0f - s)) * by;                       \
            first += d;                                                                           \
            second += d * hat;                                                                    \
            *(VEC *)(g + i * c) = d;                                                              \
        }                                                                                         \
        *(VEC *)(kept + 2 * c) = first;                                                           \
        *(VEC *)(kept + 3 * c) = second;                                                          \
    }                                                                                             \
    static void second_##NAME(float *g, const float *x, const float *kept, i64 p, i64 c) {        \
        VEC mean = *(const VEC *)kept, rate = *(const VEC *)(kept + c);                           \
        VEC first = *(const VEC *)(kept + 2 * c), second = *(const VEC *)(kept + 3 * c);          \
        for (i64 i = 0; i < p; i++) {                                                             \
            VEC hat = (*(const VEC *)(x + i * c) - mean) * rate;                                  \
            *(VEC *)(g + i * c) = rate * (*(VEC *)(g + i * c) - first - hat * second);            \
        }                                                                                         \
    }
NORM(wide, wide, wide_int)
NORM(half, half, half_int)
/* Over all channels, the last few by half a vector. */
/* kept: (4, c), of which the means and the reciprocal deviations of a picture's groups are filled in. */
static void statistics(const float *x, float *kept, i64 p, i64 c, i64 groups, float epsilon) {
    float count = (float)(p * (c / groups)), *rate = kept + c;
#define SUMS(NAME) sums_##NAME(x + j, 0, kept + j, p, c)
    EACH(SUMS, c)
    group_means(kept, c, groups, count);
#define SQUARES(NAME) sums_##NAME(x + j, kept + j, rate + j, p, c)
    EACH(SQUARES, c)
    group_means(rate, c, groups, count);
    for (i64 j = 0; j < c; j++) rate[j] = 1.0f / sqrtf(rate[j] + epsilon);
}

/* silu(group norm) of a picture, inside a frame of one empty place. */
static void norm_silu(float *framed, const float *x, const float *weight, const float *bias,
                      float *kept, i64 h, i64 w, i64 c, i64 groups, float epsilon) {
    statistics(x, kept, h * w, c, groups, epsilon);
#define NORMS(NAME) norm_##NAME(framed + j, x + j, kept + j, weight + j, bias + j, h, w, c)
    EACH(NORMS, c)
}

/* From the gradient at silu(group norm), that at x, in place. */
static void norm_silu_backward(float *g, const float *x, const float *weight, const float *bias,
                               float *kept, i64 p, i64 c, i64 groups, float epsilon) {
    float count = (float)(p * (c / groups));
    statistics(x, kept, p, c, groups, epsilon);
#define FIRST(NAME) first_##NAME(g + j, x + j, kept + j, weight + j, bias + j, p, c)
    EACH(FIRST, c)
    group_means(kept + 2 * c, c, groups, count);
    group_means(kept + 3 * c, c, groups, count);
#define SECOND(NAME) second_##NAME(g + j, x + j, kept + j, p, c)
    EACH(SECOND, c)
}

/* A picture's channels beside those of its skip, if any: (p, a) and (p, b) as (p, a + b). */
static const float *beside(float *to, const float *x, const float *skip, i64 p, i64 a, i64 b) {
    if (!skip) return x;
    for (i64 i = 0; i < p; i++) {
        memcpy(to + i * (a + b), x + i * a, a * sizeof(float));
        memcpy(to + i * (a + b) + a, skip + i * b, b * sizeof(float));
    }
    return to;
}

/* Weights of the convolution that takes gradients back: (k k, c, d) turned round and over, (k k, d, c). */
static void turn_round(float *to, const float *W, i64 k, i64 c, i64 d) {
    for (i64 t = 0; t < k * k; t++)
        for (i64 i = 0; i < c; i++)
            for (i64 j = 0; j < d; j++) to[((k * k - 1 - t) * d + j) * c + i] = W[(t * c + i) * d + j];
}

/* shortcut(x) + conv(silu(norm(conv(silu(norm(x))) + late))) of n pictures h x w; x has a channels, and b more
 * where there is a skip. Of each `slot` of rows `slot` pictures are new in `skip`: it may be shorter than x, and
 * is seen again. late: (times, d), each of n / times pictures, or null. middle: what the second norm sees, kept
 * for the backward, or null. Ws: of the shortcut (a + b, d), or null. */
void resnet(const float *x, const float *skip, const float *late, float *y, float *middle,
            const float *w1, const float *b1, const float *W1, const float *c1, const float *w2,
            const float *b2, const float *W2, const float *c2, const float *Ws, const float *cs,
            i64 n, i64 rows, i64 seen, i64 times, i64 h, i64 w, i64 a, i64 b, i64 d, i64 groups1,
            i64 groups2, float epsilon1, float epsilon2) {
    i64 p = h * w, c = a + b, frame = (h + 2) * (w + 2), most = c > d ? c : d;
    float *both = room(p * c), *A = room(frame * c), *H = room(p * d), *B = room(frame * d);
    float *first = room(d), *kept = room(4 * most);
    memset(A, 0, frame * c * sizeof(float));
    memset(B, 0, frame * d * sizeof(float));
    for (i64 k = 0; k < n; k++, y += p * d) {
        const float *own = b ? skip + (k / rows * seen + k % rows % seen) * p * b : 0;
        float *mid = middle ? middle + k * p * d : H;
        const float *X = beside(both, x + k * p * a, own, p, a, b);
        norm_silu(A, X, w1, b1, kept, h, w, c, groups1, epsilon1);
        memcpy(first, c1, d * sizeof(float));
        for (i64 j = 0; late && j < d; j++) first[j] += late[k * times / n * d + j];
        convolve(mid, A, W1, first, h, w, c, d, 3);
        norm_silu(B, mid, w2, b2, kept, h, w, d, groups2, epsilon2);
        if (Ws) {
            for (i64 j = 0; j < d; j++) first[j] = c2[j] + (cs ? cs[j] : 0.0f);
            convolve(y, X, Ws, first, h, w, c, d, 1);
        } else {
            for (i64 i = 0; i < p; i++)
                for (i64 j = 0; j < d; j++) y[i * d + j] = X[i * d + j] + c2[j];
        }
        convolve(y, B, W2, 0, h, w, d, d, 3);
    }
    free(both); free(A); free(H); free(B); free(first); free(kept);
}

/* The gradients of x and, where there is one, of a skip as long as x. */
void resnet_backward(const float *x, const float *skip, const float *middle, const float *gy,
                     float *gx, float *gskip, const float *w1, const float *b1, const float *W1,
                     const float *w2, const float *b2, const float *W2, const float *Ws, i64 n,
                     i64 h, i64 w, i64 a, i64 b, i64 d, i64 groups1, i64 groups2, float epsilon1,
                     float epsilon2) {
    i64 p = h * w, c = a + b, frame = (h + 2) * (w + 2), most = c > d ? c : d;
    float *both = room(p * c), *F = room(frame * d), *G = room(p * most), *kept = room(4 * most);
    float *R1 = room(9 * c * d), *R2 = room(9 * d * d), *Rs = Ws ? room(c * d) : 0;
    float *none = room(most);
    memset(F, 0, frame * d * sizeof(float));
    memset(none, 0, most * sizeof(float));
    turn_round(R1, W1, 3, c, d);
    turn_round(R2, W2, 3, d, d);
    if (Ws) turn_round(Rs, Ws, 1, c, d);
    for (i64 k = 0; k < n; k++, gy += p * d) {
        for (i64 r = 0; r < h; r++)
            memcpy(F + ((r + 1) * (w + 2) + 1) * d, gy + r * w * d, w * d * sizeof(float));
        convolve(G, F, R2, none, h, w, d, d, 3);
        norm_silu_backward(G, middle + k * p * d, w2, b2, kept, p, d, groups2, epsilon2);
        for (i64 r = 0; r < h; r++)
            memcpy(F + ((r + 1) * (w + 2) + 1) * d, G + r * w * d, w * d * sizeof(float));
        const float *X = beside(both, x + k * p * a, b ? skip + k * p * b : 0, p, a, b);
        convolve(G, F, R1, none, h, w, d, c, 3);
        norm_silu_backward(G, X, w1, b1, kept, p, c, groups1, epsilon1);
        if (Ws) convolve(G, gy, Rs, 0, h, w, d, c, 1);
        for (i64 i = 0; i < p; i++) {
            const float *from = G + i * c;
            for (i64 j = 0; j < a; j++)
                gx[(k * p + i) * a + j] = from[j] + (Ws ? 0.0f : gy[i * d + j]);
            for (i64 j = 0; j < b; j++) gskip[(k * p + i) * b + j] = from[a + j];
        }
    }
    free(both); free(F); free(G); free(kept); free(R1); free(R2); free(Rs); free(none);
}

/* Layer norm of rows of c. */
static void layer_norms(float *to, const float *x, const float *weight, const float *bias, i64 rows,
                        i64 c, float epsilon) {
    for (i64 i = 0; i < rows; i++, x += c, to += c) {
        float mean = 0, square = 0;
        for (i64 j = 0; j < c; j++) mean += x[j];
        mean /= c;
        for (i64 j = 0; j < c; j++) square += (x[j] - mean) * (x[j] - mean);
        float rate = 1.0f / sqrtf(square / c + epsilon);
        for (i64 j = 0; j < c; j++) to[j] = (x[j] - mean) * rate * weight[j] + bias[j];
    }
}

/* y (rows, n) = first + x (rows, m) W (m, n); without `first` it is added to y. */
static void linear(float *y, const float *x, const float *W, const float *first, i64 rows, i64 m,
                   i64 n) {
    i64 tap = 0;
    multiply((Rows){y, x, rows, n, 1, m, m}, W, n, first, n, &tap, 1);
}

/* Turned keys: u rows of c as c rows of `across`. */
static void turn(float *to, const float *k, i64 u, i64 c, i64 across) {
    for (i64 i = 0; i < u; i++)
        for (i64 j = 0; j < c; j++) to[j * across + i] = k[i * c + j];
}

/* First half times gelu of the second half of rows of 2 c: Abramowitz and Stegun 7.1.26 (error 1.5e-7). */
static void gates(float *to, const float *x, i64 rows, i64 c) {
    for (i64 i = 0; i < rows; i++, x += 2 * c, to += c) {
#define GATE(NAME)                                                                                \
    do {                                                                                          \
        NAME z = *(const NAME *)(x + c + j), a = z * 0.70710678f;                                 \
        NAME size = (NAME)((NAME##_int)a & 0x7fffffff), t = 1.0f / (1.0f + 0.3275911f * size);    \
        NAME tail = exp_##NAME(-a * a) * t * (0.254829592f + t * (-0.284496736f + t *             \
                    (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));                    \
        NAME##_int below = z < 0.0f;                                                              \
        NAME whole = 1.0f - 0.5f * tail, part = 0.5f * tail;                                      \
        NAME share = (NAME)((below & (NAME##_int)part) | (~below & (NAME##_int)whole));           \
        *(NAME *)(to + j) = *(const NAME *)(x + j) * z * share;                                   \
    } while (0)
        EACH(GATE, c)
    }
}

/* softmax(scale s) of rows of `across`. */
static void softmax(float *s, i64 rows, i64 across, float scale) {
    for (i64 i = 0; i < rows; i++, s += across) {
        float top = s[0], total = 0;
        for (i64 j = 1; j < across; j++) top = s[j] > top ? s[j] : top;
        for (i64 j = 0; j < across; j += LANES)
            *(half *)(s + j) = exp_half(scale * (*(half *)(s + j) - top));
        for (i64 j = 0; j < across; j++) total += s[j];
        total = 1.0f / total;
        for (i64 j = 0; j < across; j++) s[j] *= total;
    }
}

/* Attention in heads of p rows q to u rows: o (p, c). K: turned keys (c, across), beyond: 0 for the u columns
 * that are there, far below for those that fill the row up. */
static void attend(float *o, const float *q, const float *K, const float *v, const float *beyond,
                   float *scores, i64 p, i64 u, i64 across, i64 c, i64 heads, float scale) {
    i64 d = c / heads, tap = 0;
    float none[d];
    memset(none, 0, sizeof none);
    for (i64 h = 0; h < heads; h++) {
        Rows seen = {scores, q + h * d, p, across, 1, c, d}, mixed = {o + h * d, scores, p, c, 1, across, u};
        multiply(seen, K + h * d * across, across, beyond, across, &tap, 1);
        softmax(scores, p, across, scale);
        multiply(mixed, v + h * d, c, none, d, &tap, 1);
    }
}

/* x + proj_out(block(proj_in(norm(x)))) of n pictures, each for rows / n texts: y (rows, p, c). The block is
 * attention to itself, to the text, feed-forward of width f. Weights, each (inputs, outputs): the norm's two,
 * proj_in and bias; norm 1's two, q, k, v, out and bias; norm 2's two, q, out and bias; norm 3's two, both
 * halves and bias, back and bias; proj_out and bias. k, v (texts, u, c): of the texts; which (rows,). */
void transformer(const float *x, float *y, const float *const *weights, const float *k,
                 const float *v, const i64 *which, i64 n, i64 rows, i64 texts, i64 p, i64 u, i64 c,
                 i64 heads, i64 f, i64 groups, float epsilon, float epsilon1, float epsilon2,
                 float epsilon3, float scale) {
    const float *const *W = weights;
    i64 own = (p + LANES - 1) / LANES * LANES, across = (u + LANES - 1) / LANES * LANES;
    i64 most = own > across ? own : across, size = p * c;
    float *K = room(texts * c * across), *T = room(c * own), *beyond = room(2 * most);
    float *Z = room(6 * size), *N = Z + size, *Q = N + size, *O = Q + size, *V = O + size;
    float *Y = V + size, *H = room(3 * p * f), *S = room(p * most), *kept = room(5 * c);
    memset(K, 0, texts * c * across * sizeof(float));
    memset(T, 0, c * own * sizeof(float));
    memset(kept + 4 * c, 0, c * sizeof(float));
    for (i64 j = 0; j < most; j++) {
        beyond[j] = j < p ? 0.0f : -1e30f;
        beyond[most + j] = j < u ? 0.0f : -1e30f;
    }
    for (i64 i = 0; i < texts; i++) turn(K + i * c * across, k + i * u * c, u, c, across);
    for (i64 i = 0; i < n; i++) {
        const float *picture = x + i * size, *none = kept + 4 * c;
        statistics(picture, kept, p, c, groups, epsilon);
        for (i64 j = 0; j < p; j++)
            for (i64 l = 0; l < c; l++)
                N[j * c + l] = (picture[j * c + l] - kept[l]) * kept[c + l] * W[0][l] + W[1][l];
        linear(Z, N, W[2], W[3], p, c, c);
        layer_norms(N, Z, W[4], W[5], p, c, epsilon1);
        linear(Q, N, W[6], none, p, c, c);
        linear(O, N, W[7], none, p, c, c);
        linear(V, N, W[8], none, p, c, c);
        turn(T, O, p, c, own);
        attend(O, Q, T, V, beyond, S, p, p, own, c, heads, scale);
        for (i64 j = 0; j < p; j++)
            for (i64 l = 0; l < c; l++) Z[j * c + l] += W[10][l];
        linear(Z, O, W[9], 0, p, c, c);
        layer_norms(N, Z, W[11], W[12], p, c, epsilon2);
        linear(Q, N, W[13], none, p, c, c);
        for (i64 row = i; row < rows; row += n) {
            i64 text = which[row];
            float *to = y + row * size;
            attend(O, Q, K + text * c * across, v + text * u * c, beyond + most, S, p, u, across, c,
                   heads, scale);
            for (i64 j = 0; j < p; j++)
                for (i64 l = 0; l < c; l++) Y[j * c + l] = Z[j * c + l] + W[15][l];
            linear(Y, O, W[14], 0, p, c, c);
            layer_norms(N, Y, W[16], W[17], p, c, epsilon3);
            linear(H, N, W[18], W[19], p, c, 2 * f);
            gates(H + 2 * p * f, H, p, f);
            for (i64 j = 0; j < p; j++)
                for (i64 l = 0; l < c; l++) Y[j * c + l] += W[21][l];
            linear(Y, H + 2 * p * f, W[20], 0, p, f, c);
            for (i64 j = 0; j < p; j++)
                for (i64 l = 0; l < c; l++) to[j * c + l] = picture[j * c + l] + W[23][l];
            linear(to, Y, W[22], 0, p, c, c);
        }
    }
    free(K); free(T); free(beyond); free(Z); free(H); free(S); free(kept);
}
