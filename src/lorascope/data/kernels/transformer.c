/* A transformer over the places of pictures, with adapters: forward, and backward to pictures and adapters.
 *
 * What lies between two layers of a picture stays in the processor's cache; only what the backward needs is
 * kept. In float32, channels last. Frozen weights are packed (`pack`) and get no gradient; widths are multiples
 * of LANES. Pictures of a slot have one adapter; in an evaluation each may be seen with several texts.
 */
#include "layers.h"

enum { Q1, K1, V1, OUT1, Q2, OUT2, MODULES }; /* what may be adapted; k and v of the texts are made before */

/* The numbers of one call; rows is a multiple of pictures, and both are of slots. */
typedef struct {
    i64 slots, pictures, rows, texts, places, length, width, heads, inner, groups;
    i64 learns;                                          /* whether pictures get a gradient */
    i64 rank[MODULES], step_A[MODULES], step_B[MODULES]; /* rank 0: none; numbers from slot to slot */
} Sizes;

typedef struct {
    float norm, norm1, norm2, norm3, scale;
} Constants;

/* Packed (inputs, outputs), then turned. Up goes to both halves of the gate. */
typedef struct {
    const float *norm, *norm_bias, *in, *in_bias;
    const float *norm1, *norm1_bias, *q1, *k1, *v1, *out1, *out1_bias;
    const float *norm2, *norm2_bias, *q2, *out2, *out2_bias;
    const float *norm3, *norm3_bias, *up, *up_bias, *down, *down_bias, *back, *back_bias;
    const float *in_turned, *q1_turned, *k1_turned, *v1_turned, *out1_turned;
    const float *q2_turned, *out2_turned, *up_turned, *down_turned, *back_turned;
} Weights;

typedef struct {
    const float *A[MODULES], *B[MODULES]; /* (slots, rank, width), (slots, width, rank) */
} Adapters;

typedef struct {
    float *A[MODULES], *B[MODULES];
} Gradients;

/* Of one picture: what goes into each block of layers, and what lies within it. */
typedef struct {
    float *z, *q1, *k1, *v1, *shares1, *mixed1, *z1, *q2, *shares2, *mixed2, *z2, *up, *low;
} Kept;

/* Numbers of one picture that are kept. */
i64 kept_of(const Sizes *s) {
    i64 p = s->places, rank = 0;
    for (i64 i = 0; i < MODULES; i++) rank += s->rank[i];
    return p * (9 * s->width + s->heads * (ceiling(p) + ceiling(s->length)) + 2 * s->inner + rank);
}

static Kept part_of(float *at, const Sizes *s) {
    i64 p = s->places, size = p * s->width;
    i64 shares1 = p * s->heads * ceiling(p), shares2 = p * s->heads * ceiling(s->length);
    Kept k;
    float **parts[] = {&k.z, &k.q1, &k.k1, &k.v1, &k.shares1, &k.mixed1, &k.z1, &k.q2, &k.shares2,
                       &k.mixed2, &k.z2, &k.up, &k.low};
    i64 sizes[] = {size, size, size, size, shares1, size, size, size, shares2, size, size, 2 * p * s->inner, 0};
    for (i64 i = 0; i < 13; at += sizes[i++]) *parts[i] = at;
    return k;
}

/* Room for a picture and its layers, beside what is kept. */
static i64 room_of(const Sizes *s) {
    i64 p = s->places, most = 0, across = ceiling(p > s->length ? p : s->length), wide = s->width;
    for (i64 i = 0; i < MODULES; i++) most = s->rank[i] > most ? s->rank[i] : most;
    wide = wide > 2 * s->inner ? wide : 2 * s->inner;
    i64 made = p * (9 * s->width + 3 * s->inner) + 4 * s->width + wide;
    return made + own_of(p, s->width, most, 0) + 2 * p * across + across + s->width * across;
}

/* Means and reciprocal deviations of each channel's group: (2, c). */
static void statistics(float *to, const float *x, i64 p, i64 c, i64 groups, float epsilon) {
    i64 each = c / groups;
    float *rate = to + c, sums[2 * c];
    memset(sums, 0, sizeof sums);
    for (i64 i = 0; i < p; i++)
        for (i64 j = 0; j < c; j++) sums[j] += x[i * c + j];
    for (i64 j = 0; j < c; j++) {
        float sum = 0;
        for (i64 k = j / each * each; k < (j / each + 1) * each; k++) sum += sums[k];
        to[j] = sum / (p * each);
    }
    for (i64 i = 0; i < p; i++)
        for (i64 j = 0; j < c; j++) sums[c + j] += (x[i * c + j] - to[j]) * (x[i * c + j] - to[j]);
    for (i64 j = 0; j < c; j++) {
        float sum = 0;
        for (i64 k = j / each * each; k < (j / each + 1) * each; k++) sum += sums[c + k];
        rate[j] = 1.0f / sqrtf(sum / (p * each) + epsilon);
    }
}

/* The gradient of a group norm, added: g (p, c) is that of its output. */
static void group_norm_backward(float *to, const float *g, const float *x, const float *kept, const float *weight,
                                i64 p, i64 c, i64 groups) {
    i64 each = c / groups;
    const float *mean = kept, *rate = kept + c;
    float first[c], second[c], means[2 * c];
    memset(first, 0, sizeof first);
    memset(second, 0, sizeof second);
    for (i64 i = 0; i < p; i++)
        for (i64 j = 0; j < c; j++) {
            float d = g[i * c + j] * weight[j];
            first[j] += d;
            second[j] += d * (x[i * c + j] - mean[j]) * rate[j];
        }
    for (i64 j = 0; j < c; j++) {
        float sum = 0, product = 0;
        for (i64 k = j / each * each; k < (j / each + 1) * each; k++) sum += first[k], product += second[k];
        means[j] = sum / (p * each);
        means[c + j] = product / (p * each);
    }
    for (i64 i = 0; i < p; i++)
        for (i64 j = 0; j < c; j++) {
            float hat = (x[i * c + j] - mean[j]) * rate[j];
            to[i * c + j] += rate[j] * (g[i * c + j] * weight[j] - means[j] - hat * means[c + j]);
        }
}

static void layer_norms(float *to, const float *x, const float *weight, const float *bias, i64 rows, i64 c,
                        float epsilon) {
    for (i64 i = 0; i < rows; i++, x += c, to += c) {
        float sum = 0, square = 0;
        for (i64 j = 0; j < c; j++) sum += x[j];
        float mean = sum / c;
        for (i64 j = 0; j < c; j++) square += (x[j] - mean) * (x[j] - mean);
        float rate = 1.0f / sqrtf(square / c + epsilon);
        for (i64 j = 0; j < c; j++) to[j] = (x[j] - mean) * rate * weight[j] + bias[j];
    }
}

/* The gradient of a layer norm, added: g (rows, c) is that of its output. */
static void layer_norms_backward(float *to, const float *g, const float *x, const float *weight, i64 rows, i64 c,
                                 float epsilon) {
    for (i64 i = 0; i < rows; i++, x += c, g += c, to += c) {
        float sum = 0, square = 0, first = 0, second = 0;
        for (i64 j = 0; j < c; j++) sum += x[j];
        float mean = sum / c;
        for (i64 j = 0; j < c; j++) square += (x[j] - mean) * (x[j] - mean);
        float rate = 1.0f / sqrtf(square / c + epsilon);
        for (i64 j = 0; j < c; j++) {
            first += g[j] * weight[j];
            second += g[j] * weight[j] * (x[j] - mean) * rate;
        }
        first /= c, second /= c;
        for (i64 j = 0; j < c; j++)
            to[j] += rate * (g[j] * weight[j] - first - (x[j] - mean) * rate * second);
    }
}

/* What gelu multiplies z with: Abramowitz and Stegun 7.1.26 (error 1.5e-7). E is exp(-z z / 2). */
#define SHARE(NAME)                                                                               \
    NAME a = z * 0.70710678f, E = exp_##NAME(-a * a);                                             \
    NAME size = (NAME)((NAME##_int)a & 0x7fffffff), t = 1.0f / (1.0f + 0.3275911f * size);        \
    NAME tail = E * t * (0.254829592f + t * (-0.284496736f + t *                                  \
                (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));                        \
    NAME##_int below = z < 0.0f;                                                                  \
    NAME rest = 1.0f - 0.5f * tail, part = 0.5f * tail;                                           \
    NAME share = (NAME)((below & (NAME##_int)part) | (~below & (NAME##_int)rest));

/* First half times gelu of the second half of rows of 2 f. */
static void gates(float *to, const float *x, i64 rows, i64 f) {
    for (i64 i = 0; i < rows; i++, x += 2 * f, to += f) {
#define GATE(NAME)                                                                                \
    do {                                                                                          \
        NAME z = *(const NAME *)(x + f + j);                                                      \
        SHARE(NAME)                                                                               \
        *(NAME *)(to + j) = *(const NAME *)(x + j) * z * share;                                   \
    } while (0)
        EACH(GATE, f)
    }
}

/* Gradients of both halves (rows, 2 f) from that of their product, g (rows, f). */
static void gates_backward(float *to, const float *g, const float *x, i64 rows, i64 f) {
    for (i64 i = 0; i < rows; i++, x += 2 * f, to += 2 * f, g += f) {
#define GATE_BACKWARD(NAME)                                                                       \
    do {                                                                                          \
        NAME z = *(const NAME *)(x + f + j), by = *(const NAME *)(g + j);                         \
        SHARE(NAME)                                                                               \
        *(NAME *)(to + j) = by * z * share;                                                       \
        *(NAME *)(to + f + j) = by * *(const NAME *)(x + j) * (share + z * 0.39894228f * E);      \
    } while (0)
        EACH(GATE_BACKWARD, f)
    }
}

/* The adapter of a module of a slot, for the places of one picture. */
static Adapter adapter(const Sizes *s, const Adapters *all, i64 slot, i64 module, float *low, float *own) {
    Adapter a = {.m = s->width, .o = s->width, .rank = s->rank[module], .rows = s->places};
    if (!a.rank) return a;
    a.A = all->A[module] + slot * s->step_A[module];
    a.B = all->B[module] + slot * s->step_B[module];
    for (i64 i = 0; i < module; i++) low += s->places * s->rank[i];
    a.z = low;
    a.room = own;
    return a;
}

static Head head_of(const Sizes *s, i64 keys, float scale) {
    i64 used = ceiling(keys);
    return (Head){s->places, keys,   used, s->width / s->heads, s->width, s->width, s->heads * used,
                  0,         scale};
}

/* Attention of the places to `keys` others: mixed (p, c), the shares (p, heads, used), which are left out where
 * nothing needs them. */
static void attend(const Sizes *s, float *mixed, float *shares, const float *q, const float *k, const float *v,
                   i64 keys, float scale, int keeps, float *own) {
    Head head = head_of(s, keys, scale);
    if (head.queries % WIDE == 0 && head.size % WIDE == 0) {
        for (i64 h = 0, at = 0; h < s->heads; h++, at += head.size)
            attend_head_wide(head, mixed + at, keeps ? shares + h * head.used : 0, q + at, k + at, v + at, own);
        return;
    }
    float *turned = own, *sees = turned + head.size * head.used;
    memset(turned, 0, head.size * head.used * sizeof(float));
    for (i64 j = 0; j < head.used; j++) sees[j] = j < keys ? 1.0f : 0.0f;
    for (i64 h = 0; h < s->heads; h++) {
        i64 at = h * head.size;
        turn(turned, k + at, keys, head.size, s->width, head.used);
        attend_head(head, mixed + at, shares + h * head.used, q + at, turned, v + at, sees);
    }
}

static void attend_backward(const Sizes *s, float *gq, float *gk, float *gv, const float *g, const float *shares,
                            const float *q, const float *k, const float *v, i64 keys, float scale, float *own) {
    Head head = head_of(s, keys, scale);
    memset(own, 0, head.size * head.used * sizeof(float));
    for (i64 h = 0; h < s->heads; h++) {
        i64 at = h * head.size;
        turn(own, v + at, keys, head.size, s->width, head.used);
        attend_head_backward(head, gq + at, gk ? gk + at : 0, gv + at, g + at, shares + h * head.used, q + at,
                             k + at, own, own + head.size * head.used);
    }
}

/* to = x + bias of rows. */
static void start(float *to, const float *x, const float *bias, i64 rows, i64 c) {
    for (i64 i = 0; i < rows; i++)
        for (i64 j = 0; j < c; j++) to[i * c + j] = x[i * c + j] + bias[j];
}

/* x + back(block(in(norm(x)))): pictures (n, p, c), k and v of the texts (slots, e, u, c), which (rows / slots,)
 * of a slot's texts -> y (rows, p, c). Row r of a slot is its picture r modulo their number. The block is
 * attention to itself, to the text, feed-forward. kept: (n, kept_of), or 0 where no backward follows. */
void transformer(const Sizes *s, const Weights *w, const Constants *e, const Adapters *adapters, float *kept,
                 const float *x, const float *key, const float *value, const i64 *which, float *y) {
    i64 p = s->places, c = s->width, f = s->inner, size = p * c, u = s->length;
    i64 pictures = s->pictures / s->slots, rows = s->rows / s->slots, each = kept_of(s);
    float *made = room(room_of(s) + each), *h = made, *inner = h + size, *last = inner + p * f;
    float *stats = last + size, *none = stats + 2 * c, *own = none + (c > 2 * f ? c : 2 * f);
    memset(none, 0, c * sizeof(float));
    for (i64 i = 0; i < s->pictures; i++) {
        i64 slot = i / pictures;
        const float *picture = x + i * size;
        Kept k = part_of(kept ? kept + i * each : made + room_of(s), s);
#define ADAPT(MODULE, TO, FROM) adapt(adapter(s, adapters, slot, MODULE, k.low, own), TO, c, FROM)
        statistics(stats, picture, p, c, s->groups, e->norm);
        for (i64 j = 0; j < p; j++)
            for (i64 l = 0; l < c; l++)
                h[j * c + l] = (picture[j * c + l] - stats[l]) * stats[c + l] * w->norm[l] + w->norm_bias[l];
        product(k.z, c, h, c, w->in, 0, w->in_bias, p, c, c);
        layer_norms(h, k.z, w->norm1, w->norm1_bias, p, c, e->norm1);
        product(k.q1, c, h, c, w->q1, 0, none, p, c, c);
        product(k.k1, c, h, c, w->k1, 0, none, p, c, c);
        product(k.v1, c, h, c, w->v1, 0, none, p, c, c);
        ADAPT(Q1, k.q1, h);
        ADAPT(K1, k.k1, h);
        ADAPT(V1, k.v1, h);
        attend(s, k.mixed1, k.shares1, k.q1, k.k1, k.v1, p, e->scale, kept != 0, own);
        start(k.z1, k.z, w->out1_bias, p, c);
        product(k.z1, c, k.mixed1, c, w->out1, 0, 0, p, c, c);
        ADAPT(OUT1, k.z1, k.mixed1);
        layer_norms(h, k.z1, w->norm2, w->norm2_bias, p, c, e->norm2);
        product(k.q2, c, h, c, w->q2, 0, none, p, c, c);
        ADAPT(Q2, k.q2, h);
        for (i64 row = i % pictures; row < rows; row += pictures) {
            const float *own_key = key + (slot * s->texts + which[row]) * u * c;
            const float *own_value = value + (slot * s->texts + which[row]) * u * c;
            float *to = y + (slot * rows + row) * size;
            attend(s, k.mixed2, k.shares2, k.q2, own_key, own_value, u, e->scale, kept != 0, own);
            start(k.z2, k.z1, w->out2_bias, p, c);
            product(k.z2, c, k.mixed2, c, w->out2, 0, 0, p, c, c);
            ADAPT(OUT2, k.z2, k.mixed2);
            layer_norms(h, k.z2, w->norm3, w->norm3_bias, p, c, e->norm3);
            product(k.up, 2 * f, h, c, w->up, 0, w->up_bias, p, c, 2 * f);
            gates(inner, k.up, p, f);
            start(last, k.z2, w->down_bias, p, c);
            product(last, c, inner, f, w->down, 0, 0, p, f, c);
            start(to, picture, w->back_bias, p, c);
            product(to, c, last, c, w->back, 0, 0, p, c, c);
        }
#undef ADAPT
    }
    free(made);
}

/* From g (n, p, c), the gradient of the output, that of pictures (unless it is not wanted), and added those of
 * the texts' keys (unless 0) and values and of all A and B. Every picture has one row. */
void transformer_backward(const Sizes *s, const Weights *w, const Constants *e, const Adapters *adapters,
                          const Gradients *to, const float *kept, const float *x, const float *key,
                          const float *value, const i64 *which, const float *g, float *gx, float *gkey,
                          float *gvalue) {
    i64 p = s->places, c = s->width, f = s->inner, size = p * c, u = s->length;
    i64 pictures = s->pictures / s->slots, each = kept_of(s);
    float *made = room(room_of(s)), *h = made, *gz = h + size, *gh = gz + size, *gmixed = gh + size;
    float *gq = gmixed + size, *gk = gq + size, *gv = gk + size, *inner = gv + size, *gup = inner + p * f;
    float *stats = gup + 2 * p * f, *none = stats + 2 * c, *own = none + (c > 2 * f ? c : 2 * f);
    memset(none, 0, c * sizeof(float));
    for (i64 i = 0; i < s->pictures; i++) {
        i64 slot = i / pictures, text = (slot * s->texts + which[i % pictures]) * u * c;
        const float *picture = x + i * size, *gy = g + i * size;
        Kept k = part_of((float *)kept + i * each, s);
#define BACK(MODULE, G, FROM, GX)                                                                 \
    do {                                                                                          \
        i64 r = s->rank[MODULE];                                                                  \
        adapt_backward(adapter(s, adapters, slot, MODULE, k.low, own), G, c, FROM,                \
                       r ? to->A[MODULE] + slot * r * c : 0, r ? to->B[MODULE] + slot * c * r : 0, GX); \
    } while (0)
        /* the projection back, the feed-forward layer */
        product(gz, c, gy, c, w->back_turned, 0, none, p, c, c);
        memset(inner, 0, p * f * sizeof(float));
        product(inner, f, gz, c, w->down_turned, 0, 0, p, c, f);
        gates_backward(gup, inner, k.up, p, f);
        product(gh, c, gup, 2 * f, w->up_turned, 0, none, p, 2 * f, c);
        layer_norms_backward(gz, gh, k.z2, w->norm3, p, c, e->norm3);
        /* attention to the text */
        product(gmixed, c, gz, c, w->out2_turned, 0, none, p, c, c);
        BACK(OUT2, gz, k.mixed2, gmixed);
        attend_backward(s, gq, gkey ? gkey + text : 0, gvalue + text, gmixed, k.shares2, k.q2, key + text,
                        value + text, u, e->scale, own);
        layer_norms(h, k.z1, w->norm2, w->norm2_bias, p, c, e->norm2);
        product(gh, c, gq, c, w->q2_turned, 0, none, p, c, c);
        BACK(Q2, gq, h, gh);
        layer_norms_backward(gz, gh, k.z1, w->norm2, p, c, e->norm2);
        /* attention to itself */
        product(gmixed, c, gz, c, w->out1_turned, 0, none, p, c, c);
        BACK(OUT1, gz, k.mixed1, gmixed);
        memset(gk, 0, 2 * size * sizeof(float)); /* gv lies behind it */
        attend_backward(s, gq, gk, gv, gmixed, k.shares1, k.q1, k.k1, k.v1, p, e->scale, own);
        layer_norms(h, k.z, w->norm1, w->norm1_bias, p, c, e->norm1);
        if (!s->learns) {
            BACK(Q1, gq, h, 0);
            BACK(K1, gk, h, 0);
            BACK(V1, gv, h, 0);
            continue;
        }
        product(gh, c, gq, c, w->q1_turned, 0, none, p, c, c);
        product(gh, c, gk, c, w->k1_turned, 0, 0, p, c, c);
        product(gh, c, gv, c, w->v1_turned, 0, 0, p, c, c);
        BACK(Q1, gq, h, gh);
        BACK(K1, gk, h, gh);
        BACK(V1, gv, h, gh);
        layer_norms_backward(gz, gh, k.z, w->norm1, p, c, e->norm1);
        /* the projection and the norm before */
        product(gh, c, gz, c, w->in_turned, 0, none, p, c, c);
        statistics(stats, picture, p, c, s->groups, e->norm);
        memcpy(gx + i * size, gy, size * sizeof(float));
        group_norm_backward(gx + i * size, gh, picture, stats, w->norm, p, c, s->groups);
#undef BACK
    }
    free(made);
}
