/* Resnets of a UNet, picture by picture, forward and backward.
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
