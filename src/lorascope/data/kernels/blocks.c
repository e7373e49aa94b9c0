/* Resnets of a UNet and lone convolutions, some pictures at a time, forward and backward.
 *
 * All that lies between two layers of a picture stays in the processor's cache: it is never a tensor. In
 * float32, channels last; weights of a k x k convolution are (k k, c, d), or, where pictures are `tiled`, its
 * values at points (`winograd.h`). Widths c and d are multiples of LANES.
 */
#include "winograd.h"

/* y (h w, d) = first + the convolution of a picture in lines of `line` places, a frame of k / 2 among them. */
static void convolve(float *y, const float *x, const float *W, const float *first, i64 h, i64 w,
                     i64 line, i64 c, i64 d, i64 k) {
    i64 taps[9];
    for (i64 i = 0; i < k * k; i++) taps[i] = (i / k * line + i % k) * c;
    multiply((Rows){y, x, h * w, d, w, line * c, c}, W, d, first, d, taps, k * k);
}

/* The same of n framed pictures by 3 x 3 taps, their firsts `apart` numbers apart, or of their tiles. */
static void convolve_framed(float *y, const float *x, const float *W, i64 tiled, const float *first,
                            i64 apart, const float *none, Tiling t, i64 n, i64 c, i64 d, float *room) {
    if (tiled) {
        convolve_tiles(y, x, W, first, apart, none, t, n, c, d, room);
        return;
    }
    for (i64 k = 0; k < n; k++, y += t.h * t.w * d, x += t.frame * c)
        convolve(y, x, W, first ? first + k * apart : 0, t.h, t.w, t.line, c, d, 3);
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
        VEC sum[4] = {}, middle = {};                                                             \
        if (mean) middle = *(const VEC *)mean;                                                    \
        for (i64 i = 0; i < p; i += 4)                                                            \
            for (i64 k = 0; k < 4 && i + k < p; k++) {                                            \
                VEC d = *(const VEC *)(x + (i + k) * c) - middle;                                 \
                if (mean) d *= d;                                                                 \
                sum[k] += d;                                                                      \
            }                                                                                     \
        *(VEC *)to = (sum[0] + sum[1]) + (sum[2] + sum[3]);                                       \
    }                                                                                             \
    static void norm_##NAME(float *to, const float *x, const float *kept, const float *weight,    \
                            const float *bias, i64 h, i64 w, i64 line, i64 c) {                   \
        VEC gain = *(const VEC *)(kept + c) * *(const VEC *)weight;                               \
        VEC shift = *(const VEC *)bias - *(const VEC *)kept * gain;                               \
        for (i64 r = 0; r < h; r++)                                                               \
            for (i64 i = 0; i < w; i++) {                                                         \
                VEC z = *(const VEC *)(x + (r * w + i) * c) * gain + shift;                       \
                *(VEC *)(to + ((r + 1) * line + i + 1) * c) = z / (1.0f + exp_##NAME(-z));        \
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

/* silu(group norm) of a picture, inside a frame of empty places. */
static void norm_silu(float *framed, const float *x, const float *weight, const float *bias,
                      float *kept, Tiling t, i64 c, i64 groups, float epsilon) {
    statistics(x, kept, t.h * t.w, c, groups, epsilon);
#define NORMS(NAME) norm_##NAME(framed + j, x + j, kept + j, weight + j, bias + j, t.h, t.w, t.line, c)
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

/* A picture's channels beside those of its skip: (p, a) and (p, b) as (p, a + b). */
static void beside(float *to, const float *x, const float *skip, i64 p, i64 a, i64 b) {
    for (i64 i = 0; i < p; i++) {
        memcpy(to + i * (a + b), x + i * a, a * sizeof(float));
        memcpy(to + i * (a + b) + a, skip + i * b, b * sizeof(float));
    }
}

/* A picture inside its frame. */
static void frame(float *to, const float *x, Tiling t, i64 c) {
    for (i64 r = 0; r < t.h; r++)
        memcpy(to + ((r + 1) * t.line + 1) * c, x + r * t.w * c, t.w * c * sizeof(float));
}

/* Weights of the convolution that takes gradients back: (k k, c, d) turned round and over, (k k, d, c). */
static void turn_round(float *to, const float *W, i64 k, i64 c, i64 d) {
    for (i64 t = 0; t < k * k; t++)
        for (i64 i = 0; i < c; i++)
            for (i64 j = 0; j < d; j++) to[((k * k - 1 - t) * d + j) * c + i] = W[(t * c + i) * d + j];
}

/* Room that stays with its thread, since fresh memory comes page by page: parts of it, and emptied ones. */
typedef struct {
    float *start;
    i64 size, used;
} Stay;
static _Thread_local Stay stay;

static void stay_for(i64 count, i64 parts) {
    count += WIDE * parts;
    stay.used = 0;
    if (stay.size >= count) return;
    free(stay.start);
    stay.start = room(count);
    stay.size = count;
}

static float *part(i64 count) {
    float *found = stay.start + stay.used;
    stay.used += (count + WIDE - 1) / WIDE * WIDE;
    return found;
}

static float *empty(i64 count) { return memset(part(count), 0, count * sizeof(float)); }

/* shortcut(x) + conv(silu(norm(conv(silu(norm(x))) + late))) of n pictures h x w; x has a channels, and b more
 * where there is a skip. Of each `slot` of rows `slot` pictures are new in `skip`: it may be shorter than x,
 * and is seen again. late: (times, d), each of n / times pictures, or null. middle: what the second norm sees,
 * kept for the backward, or null. Ws: of the shortcut (a + b, d), or null. */
void resnet(const float *x, const float *skip, const float *late, float *y, float *middle,
            const float *w1, const float *b1, const float *W1, const float *c1, const float *w2,
            const float *b2, const float *W2, const float *c2, const float *Ws, const float *cs,
            i64 n, i64 rows, i64 seen, i64 times, i64 h, i64 w, i64 a, i64 b, i64 d, i64 groups1,
            i64 groups2, float epsilon1, float epsilon2, i64 tiled) {
    Tiling t = tiling_of(h, w);
    i64 p = h * w, c = a + b, most = c > d ? c : d, group = tiled ? together(t, n) : 1;
    i64 size = tiled ? tiles_room(most, d) : 0;
    stay_for(group * (p * (c + d) + t.frame * (c + d) + d) + 4 * most + d + size, 8);
    float *both = part(group * p * c), *A = empty(group * t.frame * c), *H = part(group * p * d);
    float *B = empty(group * t.frame * d), *first = part(group * d), *kept = part(4 * most);
    float *none = empty(d), *tiles = part(size);
    for (i64 at = 0; at < n; at += group, x += group * p * a, y += group * p * d) {
        i64 count = n - at < group ? n - at : group;
        float *mid = middle ? middle + at * p * d : H;
        const float *X = b ? both : x;
        for (i64 k = 0; k < count; k++) {
            i64 row = at + k;
            const float *own = b ? skip + (row / rows * seen + row % rows % seen) * p * b : 0;
            if (b) beside(both + k * p * c, x + k * p * a, own, p, a, b);
            norm_silu(A + k * t.frame * c, X + k * p * c, w1, b1, kept, t, c, groups1, epsilon1);
            for (i64 j = 0; j < d; j++) first[k * d + j] = c1[j] + (late ? late[row * times / n * d + j] : 0);
        }
        convolve_framed(mid, A, W1, tiled, first, d, none, t, count, c, d, tiles);
        for (i64 j = 0; j < d; j++) first[j] = c2[j] + (cs ? cs[j] : 0.0f);
        for (i64 k = 0; k < count; k++) {
            norm_silu(B + k * t.frame * d, mid + k * p * d, w2, b2, kept, t, d, groups2, epsilon2);
            for (i64 i = k * p; !Ws && i < (k + 1) * p; i++)
                for (i64 j = 0; j < d; j++) y[i * d + j] = X[i * d + j] + c2[j];
        }
        if (Ws) convolve(y, X, Ws, first, count * p, 1, 1, c, d, 1);
        convolve_framed(y, B, W2, tiled, 0, 0, none, t, count, d, d, tiles);
    }
}

/* The gradients of x and, where there is one, of a skip as long as x. W1 and W2 take gradients back where
 * pictures are tiled. */
void resnet_backward(const float *x, const float *skip, const float *middle, const float *gy,
                     float *gx, float *gskip, const float *w1, const float *b1, const float *W1,
                     const float *w2, const float *b2, const float *W2, const float *Ws, i64 n,
                     i64 h, i64 w, i64 a, i64 b, i64 d, i64 groups1, i64 groups2, float epsilon1,
                     float epsilon2, i64 tiled) {
    Tiling t = tiling_of(h, w);
    i64 p = h * w, c = a + b, most = c > d ? c : d, group = tiled ? together(t, n) : 1;
    i64 size = tiled ? tiles_room(d, most) : 0, turned = tiled ? 0 : 9 * d * (c + d);
    stay_for(p * c + group * (t.frame * d + p * most) + 5 * most + c * d + turned + size, 8);
    float *both = part(p * c), *F = empty(group * t.frame * d), *G = part(group * p * most);
    float *kept = part(4 * most), *Rs = part(c * d), *none = empty(most), *R = part(turned);
    float *tiles = part(size);
    if (!tiled) {
        turn_round(R, W1, 3, c, d);
        turn_round(R + 9 * d * c, W2, 3, d, d);
        W1 = R;
        W2 = R + 9 * d * c;
    }
    if (Ws) turn_round(Rs, Ws, 1, c, d);
    for (i64 at = 0; at < n; at += group, gy += group * p * d) {
        i64 count = n - at < group ? n - at : group;
        for (i64 k = 0; k < count; k++) frame(F + k * t.frame * d, gy + k * p * d, t, d);
        convolve_framed(G, F, W2, tiled, none, 0, none, t, count, d, d, tiles);
        for (i64 k = 0; k < count; k++) {
            float *own = G + k * p * d;
            norm_silu_backward(own, middle + (at + k) * p * d, w2, b2, kept, p, d, groups2, epsilon2);
            frame(F + k * t.frame * d, own, t, d);
        }
        convolve_framed(G, F, W1, tiled, none, 0, none, t, count, d, c, tiles);
        for (i64 k = 0; k < count; k++) {
            i64 row = at + k;
            const float *X = b ? both : x + row * p * c;
            if (b) beside(both, x + row * p * a, skip + row * p * b, p, a, b);
            norm_silu_backward(G + k * p * c, X, w1, b1, kept, p, c, groups1, epsilon1);
        }
        if (Ws) convolve(G, gy, Rs, 0, count * p, 1, 1, d, c, 1);
        for (i64 i = 0; i < count * p; i++) {
            float *from = G + i * c;
            for (i64 j = 0; !Ws && j < c; j++) from[j] += gy[i * d + j];
            memcpy(gx + (at * p + i) * a, from, a * sizeof(float));
            if (b) memcpy(gskip + (at * p + i) * b, from + a, b * sizeof(float));
        }
    }
}

/* first + a convolution 3 x 3, tile by tile, of n pictures h x w, made of those whose places are seen `times` x
 * `times` times: x (n, h w / times^2, c), y (n, h w, d). */
void convolution(const float *x, float *y, const float *W, const float *first, i64 n, i64 h, i64 w,
                 i64 times, i64 c, i64 d) {
    Tiling t = tiling_of(h, w);
    i64 group = together(t, n), size = tiles_room(c, d), places = h / times * (w / times);
    stay_for(group * t.frame * c + d + size, 3);
    float *F = empty(group * t.frame * c), *none = empty(d), *tiles = part(size);
    for (i64 at = 0; at < n; at += group, x += group * places * c, y += group * h * w * d) {
        i64 count = n - at < group ? n - at : group;
        for (i64 k = 0; k < count; k++)
            for (i64 r = 0; r < h; r++)
                for (i64 i = 0; i < w; i++)
                    memcpy(F + (k * t.frame + (r + 1) * t.line + i + 1) * c,
                           x + (k * places + r / times * (w / times) + i / times) * c, c * sizeof(float));
        convolve_tiles(y, F, W, first, 0, none, t, count, c, d, tiles);
    }
}

/* The gradient of x; W (d, c) takes gradients back. */
void convolution_backward(const float *gy, float *gx, const float *W, i64 n, i64 h, i64 w, i64 times,
                          i64 c, i64 d) {
    Tiling t = tiling_of(h, w);
    i64 group = together(t, n), size = tiles_room(d, c), places = h / times * (w / times);
    stay_for(group * (t.frame * d + h * w * c) + c + size, 4);
    float *F = empty(group * t.frame * d), *G = part(group * h * w * c), *none = empty(c);
    float *tiles = part(size);
    memset(gx, 0, n * places * c * sizeof(float));
    for (i64 at = 0; at < n; at += group, gy += group * h * w * d, gx += group * places * c) {
        i64 count = n - at < group ? n - at : group;
        for (i64 k = 0; k < count; k++) frame(F + k * t.frame * d, gy + k * h * w * d, t, d);
        convolve_tiles(G, F, W, none, 0, none, t, count, d, c, tiles);
        for (i64 k = 0; k < count; k++)
            for (i64 i = 0; i < h * w; i++) {
                const float *from = G + (k * h * w + i) * c;
                float *to = gx + (k * places + i / w / times * (w / times) + i % w / times) * c;
                for (i64 j = 0; j < c; j++) to[j] += from[j];
            }
    }
}
