/* Blocks of a Qwen2- or Llama-style transformer with adapters, and its head: forward and backward, slot by slot.
 *
 * A slot is some rows with one adapter; its tokens stand one after another in the list of all tokens, without
 * padding. What lies between two layers of a slot stays in the processor's cache; only what the backward needs
 * is kept. In float32. Widths are multiples of LANES; frozen weights are packed (`pack`) and get no gradient.
 */
#include "layers.h"

typedef float quarter __attribute__((vector_size(16), aligned(4), may_alias));

enum { Q, K, V, O, GATE, UP, DOWN, MODULES };

/* The numbers of one call. Angles and masks: of so many rows, 1 or all. */
typedef struct {
    i64 slots, rows, tokens, asked, width, inner, heads, groups, size, length, places;
    i64 angles, asked_angles, masks;
    i64 learns; /* whether the input gets a gradient */
    i64 rank[MODULES]; /* 0: no adapter */
    i64 step_A[MODULES], step_B[MODULES], step_gain[MODULES]; /* numbers from slot to slot */
} Sizes;

/* Packed, (inputs, outputs): as they multiply tokens, and turned, as they multiply gradients. */
typedef struct {
    const float *norm1, *q, *q_bias, *kv, *kv_bias, *out, *norm2, *gate_up, *down;
    const float *q_turned, *kv_turned, *out_turned, *gate_up_turned, *down_turned;
} Weights;

/* Where the tokens stand: row and column of each; which of them are carried on (0: all), their row and place. */
typedef struct {
    const i64 *row, *column, *some, *asked_row, *asked_place;
    const float *cos, *sin, *asked_cos, *asked_sin; /* (angles, length or places, size / 2) */
    const uint8_t *mask;                            /* (masks, places, length) */
} View;

typedef struct {
    const float *A[MODULES], *B[MODULES]; /* (slots, r, m), (slots, o, r) */
    const float *gain[MODULES];           /* (slots, o) of DoRA, or 0 */
    const float *W[MODULES];              /* (o, m) where there are gains: the frozen weight as it is */
    const uint8_t *noise[MODULES];        /* (tokens or asked, m), or 0 */
    const uint8_t *threshold, *some_threshold;
    const float *scale, *some_scale;
} Adapters;

/* What the backward needs: of each token keys, values and what K and V have between A and B; of each asked
 * token its queries, shares, attention's answer, the sum after it, gate and up, and the same of the others. */
typedef struct {
    float *kv, *z_all, *q, *shares, *mixed, *middle, *gate_up, *z_some;
} Kept;

static float inverse_root(const float *x, i64 d, float epsilon) {
    float sum = 0;
    for (i64 j = 0; j < d; j++) sum += x[j] * x[j];
    return 1.0f / sqrtf(sum / d + epsilon);
}

static void norms(float *to, const float *x, const float *weight, i64 rows, i64 d, float epsilon) {
    for (i64 i = 0; i < rows; i++, to += d, x += d) {
        float rate = inverse_root(x, d, epsilon);
        for (i64 j = 0; j < d; j++) to[j] = weight[j] * (x[j] * rate);
    }
}

/* The gradient of a norm, added: g (rows, d) is that of its output. */
static void norms_backward(float *to, const float *g, const float *x, const float *weight, i64 rows,
                           i64 d, float epsilon) {
    for (i64 i = 0; i < rows; i++, to += d, x += d, g += d) {
        float rate = inverse_root(x, d, epsilon), sum = 0;
        for (i64 j = 0; j < d; j++) sum += g[j] * weight[j] * x[j];
        sum *= rate * rate * rate / d;
        for (i64 j = 0; j < d; j++) to[j] += g[j] * weight[j] * rate - x[j] * sum;
    }
}

/* Rotary embedding of the heads of a token, or (back = -1) its inverse. */
static void rotate(float *x, i64 heads, i64 size, const float *cos, const float *sin, float back) {
    i64 middle = size / 2; /* a multiple of 4 */
    for (i64 h = 0; h < heads; h++, x += size)
        for (i64 j = 0; j < middle; j += 4) {
            quarter a = *(quarter *)(x + j), b = *(quarter *)(x + middle + j);
            quarter c = *(const quarter *)(cos + j), s = back * *(const quarter *)(sin + j);
            *(quarter *)(x + j) = a * c - b * s;
            *(quarter *)(x + middle + j) = b * c + a * s;
        }
}

/* The tokens of a slot, of which some are carried on, and room for what is made of them. */
typedef struct {
    const Sizes *s;
    const View *view;
    i64 first, count, first_asked, asked; /* tokens and asked tokens */
    i64 across;                           /* numbers of a row of shares */
    float *room;
} Slot;

static i64 row_of(const Slot *slot, i64 asked) {
    return slot->view->some ? slot->view->asked_row[asked] : slot->view->row[asked];
}

static i64 place_of(const Slot *slot, i64 asked) {
    return slot->view->some ? slot->view->asked_place[asked] : slot->view->column[asked];
}

/* Turn keys (kv) or queries (q) of all tokens of a slot to where they stand, or their gradients back. */
static void rotate_all(const Slot *slot, float *q, float *kv, float back) {
    const Sizes *s = slot->s;
    const View *v = slot->view;
    i64 half = s->size / 2, wide = s->heads * s->size, keys = 2 * s->groups * s->size;
    for (i64 i = 0; i < slot->count; i++) {
        i64 t = slot->first + i, row = s->angles > 1 ? v->row[t] : 0;
        i64 at = (row * s->length + v->column[t]) * half;
        rotate(kv + i * keys, s->groups, s->size, v->cos + at, v->sin + at, back);
    }
    i64 places = v->some ? s->places : s->length;
    const float *cos = v->some ? v->asked_cos : v->cos, *sin = v->some ? v->asked_sin : v->sin;
    for (i64 i = 0; i < slot->asked; i++) {
        i64 t = slot->first_asked + i, row = s->asked_angles > 1 ? row_of(slot, t) : 0;
        i64 at = (row * places + place_of(slot, t)) * half;
        rotate(q + i * wide, s->heads, s->size, cos + at, sin + at, back);
    }
}

/* The tokens of one row of a slot: which, counted within the slot. */
typedef struct {
    i64 row, from, keys, from_asked, queries;
} Row;

/* The next row that holds a token; 0 after the last. */
static int next_row(const Slot *slot, Row *r) {
    i64 at = r->from + r->keys, asked = r->from_asked + r->queries;
    if (at == slot->count) return 0;
    const i64 *rows = slot->view->row + slot->first;
    *r = (Row){rows[at], at, 0, asked, 0};
    while (at + r->keys < slot->count && rows[at + r->keys] == r->row) r->keys++;
    while (asked + r->queries < slot->asked &&
           row_of(slot, slot->first_asked + asked + r->queries) == r->row)
        r->queries++;
    return 1;
}

/* 1 for the keys that each query of a row may see, 0 for the others: (queries, used). */
static void sight(float *to, const Slot *slot, const Row *r, i64 used) {
    const Sizes *s = slot->s;
    const i64 *column = slot->view->column + slot->first + r->from;
    for (i64 i = 0; i < r->queries; i++, to += used) {
        i64 place = place_of(slot, slot->first_asked + r->from_asked + i);
        const uint8_t *seen =
            slot->view->mask + ((s->masks > 1 ? r->row : 0) * s->places + place) * s->length;
        for (i64 j = 0; j < used; j++) to[j] = j < r->keys && seen[column[j]] ? 1.0f : 0.0f;
    }
}

static Head head_of(const Slot *slot, const Row *r) {
    const Sizes *s = slot->s;
    i64 used = ceiling(r->keys), wide = s->heads * s->size, keys = 2 * s->groups * s->size;
    return (Head){r->queries, r->keys, used, s->size, wide, keys, s->heads * slot->across, used,
                  1.0f / sqrtf((float)s->size)};
}

/* Attention in every row: mixed (asked, heads size), the shares are kept (asked, heads, across). */
static void attend(const Slot *slot, float *mixed, float *shares, const float *q, const float *kv) {
    const Sizes *s = slot->s;
    i64 size = s->size, keys = 2 * s->groups * size, each = s->heads / s->groups;
    for (Row r = {0}; next_row(slot, &r);) {
        Head head = head_of(slot, &r);
        float *share = shares + r.from_asked * head.apart_shares;
        float *turned = slot->room, *sees = turned + size * head.used;
        sight(sees, slot, &r, head.used);
        memset(share, 0, r.queries * head.apart_shares * sizeof(float));
        memset(turned, 0, size * head.used * sizeof(float));
        for (i64 h = 0; h < s->heads; h++) {
            const float *k = kv + r.from * keys + h / each * size, *value = k + s->groups * size;
            i64 at = r.from_asked * head.apart + h * size;
            if (h % each == 0) turn(turned, k, r.keys, size, keys, head.used);
            attend_head(head, mixed + at, share + h * slot->across, q + at, turned, value, sees);
        }
    }
}

/* Gradients of queries gq (asked, heads size) and of keys and values gkv (count, 2 groups size). */
static void attend_backward(const Slot *slot, float *gq, float *gkv, const float *g,
                            const float *shares, const float *q, const float *kv) {
    const Sizes *s = slot->s;
    i64 size = s->size, keys = 2 * s->groups * size, each = s->heads / s->groups;
    memset(gkv, 0, slot->count * keys * sizeof(float));
    for (Row r = {0}; next_row(slot, &r);) {
        Head head = head_of(slot, &r);
        float *turned = slot->room;
        memset(turned, 0, size * head.used * sizeof(float));
        for (i64 h = 0; h < s->heads; h++) {
            i64 own = r.from * keys + h / each * size, values = own + s->groups * size;
            i64 at = r.from_asked * head.apart + h * size;
            const float *share = shares + (r.from_asked * s->heads + h) * slot->across;
            if (h % each == 0) turn(turned, kv + values, r.keys, size, keys, head.used);
            attend_head_backward(head, gq + at, gkv + own, gkv + values, g + at, share, q + at, kv + own,
                                 turned, turned + size * head.used);
        }
    }
}

/* silu(gate) up of rows of 2 f. */
static void gates(float *to, const float *x, i64 rows, i64 f) {
    for (i64 i = 0; i < rows; i++, x += 2 * f, to += f) {
#define GATE(NAME)                                                                                \
    do {                                                                                          \
        NAME gate = *(const NAME *)(x + j), up = *(const NAME *)(x + f + j);                      \
        *(NAME *)(to + j) = gate / (1.0f + exp_##NAME(-gate)) * up;                               \
    } while (0)
        EACH(GATE, f)
    }
}

/* Gradients of gate and up (rows, 2 f) from that of silu(gate) up, g (rows, f). */
static void gates_backward(float *to, const float *g, const float *x, i64 rows, i64 f) {
    for (i64 i = 0; i < rows; i++, x += 2 * f, to += 2 * f, g += f) {
#define GATE_BACKWARD(NAME)                                                                       \
    do {                                                                                          \
        NAME gate = *(const NAME *)(x + j), up = *(const NAME *)(x + f + j);                      \
        NAME by = *(const NAME *)(g + j), s = 1.0f / (1.0f + exp_##NAME(-gate));                  \
        *(NAME *)(to + j) = by * up * s * (1.0f + gate * (1.0f - s));                             \
        *(NAME *)(to + f + j) = by * gate * s;                                                    \
    } while (0)
        EACH(GATE_BACKWARD, f)
    }
}

/* Where each slot's tokens begin in a list of the rows that tokens stand in, and where the last one's end. */
static void begins(i64 *to, const i64 *row, i64 count, const Sizes *s) {
    i64 at = 0, each = s->rows / s->slots;
    for (i64 slot = 0; slot <= s->slots; slot++) {
        while (at < count && row[at] < slot * each) at++;
        to[slot] = at;
    }
}

static const i64 MINE[] = {K, V}, SOME[] = {Q, O, GATE, UP, DOWN};

static i64 inputs_of(const Sizes *s, i64 module) {
    return module == O ? s->heads * s->size : module == DOWN ? s->inner : s->width;
}

static i64 outputs_of(const Sizes *s, i64 module) {
    i64 all[] = {s->heads * s->size, s->groups * s->size, s->groups * s->size, s->width,
                 s->inner,           s->inner,            s->width};
    return all[module];
}

/* The adapter of a module in a slot. */
static Adapter adapter(const Sizes *s, const Adapters *all, const Slot *slot, const Kept *kept, i64 which,
                       i64 module) {
    i64 every = module == K || module == V, rank = s->rank[module];
    i64 first = every ? slot->first : slot->first_asked, rows = every ? slot->count : slot->asked;
    Adapter a = {.m = inputs_of(s, module), .o = outputs_of(s, module), .rank = rank, .rows = rows};
    if (!rank) return a;
    a.A = all->A[module] + which * s->step_A[module];
    a.B = all->B[module] + which * s->step_B[module];
    if (all->gain[module]) {
        a.gain = all->gain[module] + which * s->step_gain[module];
        a.W = all->W[module];
    }
    const uint8_t *noise = all->noise[module];
    if (noise) {
        a.noise = noise + first * a.m;
        a.threshold = (every ? all->threshold : all->some_threshold) + first;
        a.scale = (every ? all->scale : all->some_scale) + first;
    }
    a.z = every ? kept->z_all : kept->z_some;
    const i64 *order = every ? MINE : SOME;
    for (i64 i = 0; order[i] != module; i++) a.z += rows * s->rank[order[i]];
    a.room = slot->room;
    return a;
}

/* A slot's part of what is kept, or room for it where nothing is. */
static Kept part_of(const Kept *kept, const Sizes *s, const Slot *slot, float *room) {
    i64 wide = s->heads * s->size, keys = 2 * s->groups * s->size, mine = 0, some = 0;
    for (i64 i = 0; i < 2; i++) mine += s->rank[MINE[i]];
    for (i64 i = 0; i < 5; i++) some += s->rank[SOME[i]];
    i64 of_all[] = {keys, mine}, of_some[] = {wide, s->heads * slot->across, wide, s->width, 2 * s->inner, some};
    Kept part;
    float **all[] = {&part.kv, &part.z_all};
    float **rest[] = {&part.q, &part.shares, &part.mixed, &part.middle, &part.gate_up, &part.z_some};
    float *const from_all[] = {kept->kv, kept->z_all};
    float *const from_rest[] = {kept->q, kept->shares, kept->mixed, kept->middle, kept->gate_up, kept->z_some};
    for (i64 i = 0; i < 2; i++) {
        *all[i] = from_all[i] ? from_all[i] + slot->first * of_all[i] : room;
        room += slot->count * of_all[i];
    }
    for (i64 i = 0; i < 6; i++) {
        *rest[i] = from_rest[i] ? from_rest[i] + slot->first_asked * of_some[i] : room;
        room += slot->asked * of_some[i];
    }
    return part;
}

/* Room that adapters and attention need. */
static i64 working(const Sizes *s, const Adapters *adapters, const Slot *slot) {
    i64 wide = s->heads * s->size, rank = 0, most = s->inner > s->width ? s->inner : s->width;
    i64 rows = slot->count > slot->asked ? slot->count : slot->asked, dense = 0;
    most = most > wide ? most : wide;
    for (i64 i = 0; i < MODULES; i++) {
        i64 numbers = adapters->gain[i] ? inputs_of(s, i) * outputs_of(s, i) : 0;
        rank = s->rank[i] > rank ? s->rank[i] : rank;
        dense = numbers > dense ? numbers : dense;
    }
    return own_of(rows, most, rank, dense) + s->size * slot->across + 2 * rows * slot->across;
}

/* Room that a slot needs at most: what is kept, what layers make, what adapters and attention need. */
static i64 room_of(const Sizes *s, const Adapters *adapters, const Slot *slot) {
    i64 wide = s->heads * s->size, keys = 2 * s->groups * s->size, rank = 0;
    for (i64 i = 0; i < MODULES; i++) rank = s->rank[i] > rank ? s->rank[i] : rank;
    i64 rows = slot->count > slot->asked ? slot->count : slot->asked;
    i64 held = rows * (keys + 2 * wide + s->heads * slot->across + 2 * s->width + 2 * s->inner + 7 * rank);
    i64 made = rows * (5 * s->width + 2 * wide + keys + 4 * s->inner) + s->width;
    return held + made + working(s, adapters, slot) + 16 * 16;
}

/* What the slots have in common, and one of them. */
typedef struct {
    const Sizes *s;
    const View *view;
    i64 *first, *first_asked;
} Slots;

static Slots slots_of(const Sizes *s, const View *v) {
    Slots all = {s, v, malloc((s->slots + 1) * sizeof(i64)), malloc((s->slots + 1) * sizeof(i64))};
    begins(all.first, v->row, s->tokens, s);
    begins(all.first_asked, v->some ? v->asked_row : v->row, s->asked, s);
    return all;
}

static Slot slot_of(const Slots *all, i64 which) {
    i64 at = all->first[which], asked = all->first_asked[which];
    return (Slot){all->s, all->view, at, all->first[which + 1] - at, asked,
                  all->first_asked[which + 1] - asked, ceiling(all->s->length), 0};
}

/* Rows of the tokens that are carried on, out of all of a slot's: (asked, d). */
static const float *carried(float *to, const float *x, const Slot *slot, i64 d) {
    const i64 *some = slot->view->some;
    if (!some) return x;
    for (i64 i = 0; i < slot->asked; i++)
        memcpy(to + i * d, x + (some[slot->first_asked + i] - slot->first) * d, d * sizeof(float));
    return to;
}

static void forward_slot(const Sizes *s, const Weights *w, const Adapters *adapters, Slot slot, i64 which,
                         const Kept *all, const float *x, float *y, float epsilon) {
    i64 d = s->width, f = s->inner, wide = s->heads * s->size, keys = 2 * s->groups * s->size;
    i64 count = slot.count, asked = slot.asked;
    float *begin = room(room_of(s, adapters, &slot)), *h = begin, *late = h + count * d, *inner = late + asked * d;
    float *rest = inner + asked * f;
    slot.room = rest; /* of adapters and attention; what is kept comes last, as it may need none */
    rest += working(s, adapters, &slot);
    Kept kept = part_of(all, s, &slot, rest);
    x += slot.first * d;
    y += slot.first_asked * d;
#define ADAPT(MODULE, TO, APART, FROM)                                                            \
    adapt(adapter(s, adapters, &slot, &kept, which, MODULE), TO, APART, FROM)
    norms(h, x, w->norm1, count, d, epsilon);
    const float *seen = carried(late, h, &slot, d);
    product(kept.kv, keys, h, d, w->kv, 0, w->kv_bias, count, d, keys);
    product(kept.q, wide, seen, d, w->q, 0, w->q_bias, asked, d, wide);
    ADAPT(K, kept.kv, keys, h);
    ADAPT(V, kept.kv + keys / 2, keys, h);
    ADAPT(Q, kept.q, wide, seen);
    rotate_all(&slot, kept.q, kept.kv, 1.0f);
    attend(&slot, kept.mixed, kept.shares, kept.q, kept.kv);
    const float *before = carried(kept.middle, x, &slot, d);
    if (before == x) memcpy(kept.middle, x, asked * d * sizeof(float));
    product(kept.middle, d, kept.mixed, wide, w->out, 0, 0, asked, wide, d);
    ADAPT(O, kept.middle, d, kept.mixed);
    norms(late, kept.middle, w->norm2, asked, d, epsilon);
    memset(inner, 0, f * sizeof(float)); /* no bias */
    for (i64 i = 0; i < 2; i++)
        product(kept.gate_up + i * f, 2 * f, late, d, w->gate_up + i * d * f, 0, inner, asked, d, f);
    ADAPT(GATE, kept.gate_up, 2 * f, late);
    ADAPT(UP, kept.gate_up + f, 2 * f, late);
    gates(inner, kept.gate_up, asked, f);
    memcpy(y, kept.middle, asked * d * sizeof(float));
    product(y, d, inner, f, w->down, 0, 0, asked, f, d);
    ADAPT(DOWN, y, d, inner);
#undef ADAPT
    free(begin);
}

/* x (tokens, d) -> y (asked, d). */
void block(const Sizes *s, const Weights *w, const View *v, const Adapters *adapters, const Kept *kept,
           const float *x, float *y, float epsilon) {
    Slots all = slots_of(s, v);
#pragma omp parallel for schedule(dynamic)
    for (i64 which = 0; which < s->slots; which++) {
        Slot slot = slot_of(&all, which);
        if (slot.count) forward_slot(s, w, adapters, slot, which, kept, x, y, epsilon);
    }
    free(all.first);
    free(all.first_asked);
}

/* Where the gradients of all A, B and gains are added. */
typedef struct {
    float *A[MODULES], *B[MODULES], *gain[MODULES];
} Gradients;

/* The gradients of the adapter of a module in a slot. */
static void back(Adapter a, const Gradients *to, i64 which, i64 module, const float *g, i64 apart,
                 const float *x, float *gx) {
    if (!a.rank) return;
    float *gA = to->A[module] + which * a.rank * a.m, *gB = to->B[module] + which * a.o * a.rank;
    if (a.gain)
        dense_backward(a, g, apart, x, gA, gB, to->gain[module] + which * a.o, gx);
    else
        adapt_backward(a, g, apart, x, gA, gB, gx);
}

static void backward_slot(const Sizes *s, const Weights *w, const Adapters *adapters, Slot slot, i64 which,
                          const Kept *all, const Gradients *to, const float *x, const float *g, float *gx,
                          float epsilon) {
    i64 d = s->width, f = s->inner, wide = s->heads * s->size, keys = 2 * s->groups * s->size;
    i64 count = slot.count, asked = slot.asked;
    float *begin = room(room_of(s, adapters, &slot)), *h = begin, *late = h + count * d, *middle = late + asked * d;
    float *gq = middle + asked * d, *gmixed = gq + asked * wide, *gkv = gmixed + asked * wide;
    float *inner = gkv + count * keys, *ginner = inner + asked * f, *ggate = ginner + asked * f;
    float *gh = ggate + 2 * asked * f, *none = gh + (count + asked) * d;
    slot.room = none + d;
    Kept kept = part_of(all, s, &slot, 0);
    x += slot.first * d;
    g += slot.first_asked * d;
    memset(none, 0, d * sizeof(float));
#define BACK(MODULE, G, APART, FROM, GX)                                                          \
    back(adapter(s, adapters, &slot, &kept, which, MODULE), to, which, MODULE, G, APART, FROM, GX)
    /* the feed-forward layer */
    if (s->rank[DOWN]) gates(inner, kept.gate_up, asked, f);
    memset(ginner, 0, asked * f * sizeof(float));
    product(ginner, f, g, d, w->down_turned, 0, 0, asked, d, f);
    BACK(DOWN, g, d, inner, ginner);
    gates_backward(ggate, ginner, kept.gate_up, asked, f);
    product(middle, d, ggate, 2 * f, w->gate_up_turned, 0, none, asked, 2 * f, d);
    if (s->rank[GATE] || s->rank[UP]) {
        norms(late, kept.middle, w->norm2, asked, d, epsilon);
        BACK(GATE, ggate, 2 * f, late, middle);
        BACK(UP, ggate + f, 2 * f, late, middle);
    }
    float *gmiddle = late; /* of the sum after attention */
    memcpy(gmiddle, g, asked * d * sizeof(float));
    norms_backward(gmiddle, middle, kept.middle, w->norm2, asked, d, epsilon);
    /* attention */
    memset(gmixed, 0, asked * wide * sizeof(float));
    product(gmixed, wide, gmiddle, d, w->out_turned, 0, 0, asked, d, wide);
    BACK(O, gmiddle, d, kept.mixed, gmixed);
    attend_backward(&slot, gq, gkv, gmixed, kept.shares, kept.q, kept.kv);
    rotate_all(&slot, gq, gkv, -1.0f);
    norms(h, x, w->norm1, count, d, epsilon);
    const float *seen = carried(middle, h, &slot, d);
    if (!s->learns) {
        BACK(K, gkv, keys, h, 0);
        BACK(V, gkv + keys / 2, keys, h, 0);
        BACK(Q, gq, wide, seen, 0);
        free(begin);
        return;
    }
    gx += slot.first * d;
    float *gseen = slot.view->some ? gh + count * d : gh;
    product(gh, d, gkv, keys, w->kv_turned, 0, none, count, keys, d);
    if (slot.view->some)
        product(gseen, d, gq, wide, w->q_turned, 0, none, asked, wide, d);
    else
        product(gseen, d, gq, wide, w->q_turned, 0, 0, asked, wide, d);
    BACK(K, gkv, keys, h, gh);
    BACK(V, gkv + keys / 2, keys, h, gh);
    BACK(Q, gq, wide, seen, gseen);
    memset(gx, 0, count * d * sizeof(float));
    for (i64 i = 0; i < asked; i++) {
        i64 t = slot.view->some ? slot.view->some[slot.first_asked + i] - slot.first : i;
        for (i64 j = 0; j < d; j++) gx[t * d + j] += gmiddle[i * d + j];
        for (i64 j = 0; j < d && slot.view->some; j++) gh[t * d + j] += gseen[i * d + j];
    }
    norms_backward(gx, gh, x, w->norm1, count, d, epsilon);
#undef BACK
    free(begin);
}

/* From g (asked, d), the gradient of the output, that of x (tokens, d), and those of all adapters, added. */
void block_backward(const Sizes *s, const Weights *w, const View *v, const Adapters *adapters,
                    const Kept *kept, const Gradients *to, const float *x, const float *g, float *gx,
                    float epsilon) {
    Slots all = slots_of(s, v);
#pragma omp parallel for schedule(dynamic)
    for (i64 which = 0; which < s->slots; which++) {
        Slot slot = slot_of(&all, which);
        if (slot.count) backward_slot(s, w, adapters, slot, which, kept, to, x, g, gx, epsilon);
    }
    free(all.first);
    free(all.first_asked);
}

#define CHUNK 64 /* tokens whose logits stand in the cache */

/* The loss of w labels of each token: x (k, d), head packed (d, across), of which `words` count; labels (k, w),
 * losses (k, w). With g (k, w), the gradient of the losses, also gx (k, d), that of x. */
void head(const float *x, const float *norm, const float *W, const float *turned, const i64 *labels,
          float *losses, const float *g, float *gx, i64 tokens, i64 d, i64 across, i64 words, i64 w,
          float epsilon) {
#pragma omp parallel for schedule(dynamic)
    for (i64 at = 0; at < tokens; at += CHUNK) {
        i64 rows = tokens - at < CHUNK ? tokens - at : CHUNK;
        i64 most = across > d ? across : d;
        float *h = room(rows * (d + across) + most), *logits = h + rows * d, *none = logits + rows * across;
        memset(none, 0, most * sizeof(float));
        norms(h, x + at * d, norm, rows, d, epsilon);
        product(logits, across, h, d, W, 0, none, rows, d, across);
        for (i64 i = 0; i < rows; i++) {
            float *z = logits + i * across, top = z[0], total = 0, all = 0;
            const i64 *label = labels + (at + i) * w;
            float *loss = losses + (at + i) * w;
            for (i64 j = 1; j < words; j++) top = z[j] > top ? z[j] : top;
            for (i64 j = 0; j < w && !g; j++) loss[j] = top - z[label[j]];
            for (i64 j = words; j < across; j++) z[j] = -1e30f;
            for (i64 j = 0; j < across; j += LANES) *(half *)(z + j) = exp_half(*(half *)(z + j) - top);
            for (i64 j = 0; j < words; j++) total += z[j];
            for (i64 j = 0; j < w && !g; j++) loss[j] += logf(total);
            for (i64 j = 0; j < w && g; j++) all += g[(at + i) * w + j];
            for (i64 j = 0; j < across && g; j++) z[j] *= j < words ? all / total : 0.0f;
            for (i64 j = 0; j < w && g; j++) z[label[j]] -= g[(at + i) * w + j];
        }
        if (g) {
            product(h, d, logits, across, turned, 0, none, rows, across, d);
            memset(gx + at * d, 0, rows * d * sizeof(float));
            norms_backward(gx + at * d, h, x + at * d, norm, rows, d, epsilon);
        }
        free(h);
    }
}
