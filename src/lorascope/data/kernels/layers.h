/* What blocks with adapters are made of: frozen layers, adapters, heads of attention; forward and backward.
 *
 * In float32; rows of tokens lie some numbers apart, widths are multiples of LANES.
 */
#include "tiles.h"
#ifdef __AVX512F__
#include <immintrin.h>
#endif

EXP(exp_wide, wide, wide_int)
EXP(exp_half, half, half_int)

static i64 ceiling(i64 x) { return (x + LANES - 1) / LANES * LANES; }

/* W (c, d) with the columns of a tile side by side. */
void pack(const float *W, float *to, i64 c, i64 d) {
    for (i64 j = 0, width; j < d; j += width) {
        width = width_of(d - j);
        for (i64 k = 0; k < c; k++, to += width) memcpy(to, W + k * d + j, width * sizeof(float));
    }
}

/* y (rows, d) = first + x (rows, c) W, rows of x and y some numbers apart; without `first` it is added to y. */
static void product(float *y, i64 apart_y, const float *x, i64 apart_x, const float *W, i64 across,
                    const float *first, i64 rows, i64 c, i64 d) {
    i64 tap = 0;
    multiply((Rows){y, x, rows, apart_y, 1, apart_x, c}, W, across, first, d, &tap, 1);
}

/* What each input of a module's adapter is multiplied with: where its byte reaches the threshold the scale. */
static void masks(float *restrict to, const uint8_t *restrict noise, const uint8_t *threshold,
                  const float *scale, i64 rows, i64 m) {
    for (i64 i = 0; i < rows; i++) {
        const int least = threshold[i];
        const float by = scale[i];
        for (i64 j = 0; j < m; j++) to[i * m + j] = noise[i * m + j] >= least ? by : 0.0f;
    }
}

#ifdef __AVX512F__
/* A block of 16 x 16: pairs of rows, fours of rows, then their quarters. */
static inline void turn_block(float *to, const float *x, i64 apart, i64 across) {
    __m512 r[WIDE], s[WIDE];
    for (int i = 0; i < WIDE; i++) r[i] = _mm512_loadu_ps(x + i * apart);
    for (int i = 0; i < WIDE; i += 2) {
        s[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < WIDE; i += 4)
        for (int k = 0; k < 2; k++) {
            __m512d a = (__m512d)s[i + k], b = (__m512d)s[i + k + 2];
            r[i + 2 * k] = (__m512)_mm512_unpacklo_pd(a, b);
            r[i + 2 * k + 1] = (__m512)_mm512_unpackhi_pd(a, b);
        }
    for (int j = 0; j < 4; j++) {
        __m512 a = _mm512_shuffle_f32x4(r[j], r[j + 4], 0x88), b = _mm512_shuffle_f32x4(r[j], r[j + 4], 0xdd);
        __m512 c = _mm512_shuffle_f32x4(r[j + 8], r[j + 12], 0x88);
        __m512 d = _mm512_shuffle_f32x4(r[j + 8], r[j + 12], 0xdd);
        _mm512_storeu_ps(to + j * across, _mm512_shuffle_f32x4(a, c, 0x88));
        _mm512_storeu_ps(to + (j + 4) * across, _mm512_shuffle_f32x4(b, d, 0x88));
        _mm512_storeu_ps(to + (j + 8) * across, _mm512_shuffle_f32x4(a, c, 0xdd));
        _mm512_storeu_ps(to + (j + 12) * across, _mm512_shuffle_f32x4(b, d, 0xdd));
    }
}
#endif

/* x (rows, c), rows some numbers apart, turned: (c, rows), `across` apart. */
static void turn(float *to, const float *x, i64 rows, i64 c, i64 apart, i64 across) {
    i64 high = 0, broad = 0; /* of whole blocks */
#ifdef __AVX512F__
    high = rows / WIDE * WIDE, broad = c / WIDE * WIDE;
    for (i64 i = 0; i < high; i += WIDE)
        for (i64 j = 0; j < broad; j += WIDE) turn_block(to + j * across + i, x + i * apart + j, apart, across);
#endif
    for (i64 i = 0; i < rows; i++)
        for (i64 j = i < high ? broad : 0; j < c; j++) to[j * across + i] = x[i * apart + j];
}

/* One module's adapter in one slot: rows of inputs m and outputs o. */
typedef struct {
    i64 m, o, rank, rows;
    const float *A, *B; /* (rank, m), (o, rank) */
    const uint8_t *noise, *threshold;
    const float *scale;
    float *z, *room;      /* z (rows, rank); room for `own_of` numbers */
    const float *gain, *W; /* of DoRA, else 0: (o), and the frozen weight (o, m) */
} Adapter;

/* Room that adapters of up to so many inputs or outputs and of up to this rank need, where rows have gains with
 * weights of up to `dense` numbers, else 0. */
static i64 own_of(i64 rows, i64 most, i64 rank, i64 dense) {
    i64 plain = rows * (3 * most + 2 * rank) + rank * most;
    return dense ? plain + most * (rows + 2 * rank) + 4 * dense : plain;
}

/* to (rows, rank) = x W^T of rows some numbers apart, W (rank, c): few outputs, each a sum of vectors. */
static void narrow(float *to, const float *x, i64 apart, const float *W, i64 rows, i64 c, i64 rank) {
    for (i64 i = 0; i < rows; i++, x += apart)
        for (i64 r = 0; r < rank; r += 4) {
            i64 some = rank - r < 4 ? rank - r : 4, j = 0;
            const float *w[4];
            wide sum[4] = {};
            float all[4] = {};
            for (i64 k = 0; k < 4; k++) w[k] = W + (r + (k < some ? k : 0)) * c;
            for (; j + WIDE <= c; j += WIDE)
                for (i64 k = 0; k < 4; k++) sum[k] += *(const wide *)(x + j) * *(const wide *)(w[k] + j);
            for (i64 k = 0; k < 4; k++)
                for (i64 l = 0; l < WIDE; l++) all[k] += sum[k][l];
            for (; j < c; j++)
                for (i64 k = 0; k < 4; k++) all[k] += x[j] * w[k][j];
            for (i64 k = 0; k < some; k++) to[i * rank + r + k] = all[k];
        }
}

/* What is added to a module's weight where its rows have gains, turned: D = gain W + (1 + gain) B A (m, o). Beside
 * it V = W + B A, turned, and the adapter turned: A (m, rank), B (rank, o). */
static void dense_of(Adapter a, float *D, float *V, float *A, float *B) {
    float none[a.o];
    memset(none, 0, sizeof none);
    turn(A, a.A, a.rank, a.m, a.m, a.rank);
    turn(B, a.B, a.o, a.rank, a.rank, a.o);
    turn(V, a.W, a.o, a.m, a.m, a.o);
    product(D, a.o, A, a.rank, B, a.o, none, a.m, a.rank, a.o);
    for (i64 i = 0; i < a.m; i++, D += a.o, V += a.o)
        for (i64 j = 0; j < a.o; j++) {
            V[j] += D[j];
            D[j] += a.gain[j] * V[j];
        }
}

/* y += thinned(x) A^T B^T; with gains y += thinned(x) D^T. */
static void adapt(Adapter a, float *y, i64 apart, const float *x) {
    if (!a.rank) return;
    float *B = a.room, *inputs = B + a.rank * a.o;
    if (a.noise) {
        masks(inputs, a.noise, a.threshold, a.scale, a.rows, a.m);
        for (i64 i = 0; i < a.rows * a.m; i++) inputs[i] *= x[i];
        x = inputs;
    }
    if (a.gain) {
        float *D = inputs + a.rows * a.m, *V = D + a.m * a.o;
        dense_of(a, D, V, V + a.m * a.o, B);
        product(y, apart, x, a.m, D, a.o, 0, a.rows, a.m, a.o);
        return;
    }
    narrow(a.z, x, a.m, a.A, a.rows, a.m, a.rank);
    turn(B, a.B, a.o, a.rank, a.rank, a.o);
    product(y, apart, a.z, a.rank, B, a.o, 0, a.rows, a.rank, a.o);
}

/* Adds gradients as `adapt_backward` does where rows have gains, and of those to ggain (o). */
static void dense_backward(Adapter a, const float *g, i64 apart, const float *x, float *gA, float *gB,
                           float *ggain, float *gx) {
    i64 all = a.rows * a.m, most = a.m > a.o ? a.m : a.o;
    float *B = a.room, *mask = B + a.rank * a.o, *inputs = mask + all, *back = inputs + all;
    float *turned = back + all, *D = turned + all, *V = D + a.m * a.o, *G = V + a.m * a.o;
    float *A = G + a.m * a.o, *own = A + a.rank * a.m; /* (m, rank), then (rank, o), then D turned (o, m) */
    float none[most];
    memset(none, 0, sizeof none);
    if (a.noise) {
        masks(mask, a.noise, a.threshold, a.scale, a.rows, a.m);
        for (i64 i = 0; i < all; i++) inputs[i] = x[i] * mask[i];
        x = inputs;
    }
    dense_of(a, D, V, A, B);
    turn(turned, x, a.rows, a.m, a.m, a.rows);
    product(G, a.o, turned, a.rows, g, apart, none, a.m, a.rows, a.o); /* that of D, turned */
    for (i64 i = 0; i < a.m; i++)
        for (i64 j = 0; j < a.o; j++) {
            ggain[j] += G[i * a.o + j] * V[i * a.o + j];
            G[i * a.o + j] *= 1.0f + a.gain[j];
        }
    narrow(own, G, a.o, B, a.m, a.o, a.rank);
    for (i64 i = 0; i < a.m; i++)
        for (i64 r = 0; r < a.rank; r++) gA[r * a.m + i] += own[i * a.rank + r];
    product(own, a.o, a.A, a.m, G, a.o, none, a.rank, a.m, a.o);
    for (i64 r = 0; r < a.rank; r++)
        for (i64 j = 0; j < a.o; j++) gB[j * a.rank + r] += own[r * a.o + j];
    if (!gx) return;
    turn(own, D, a.m, a.o, a.o, a.m);
    if (!a.noise) {
        product(gx, a.m, g, apart, own, a.m, 0, a.rows, a.o, a.m);
        return;
    }
    product(back, a.m, g, apart, own, a.m, none, a.rows, a.o, a.m);
    for (i64 i = 0; i < all; i++) gx[i] += back[i] * mask[i];
}

/* Adds gradients: of A (rank, m) and B (o, rank), and, unless 0, of the inputs to gx (rows, m). */
static void adapt_backward(Adapter a, const float *g, i64 apart, const float *x, float *gA, float *gB,
                           float *gx) {
    if (!a.rank) return;
    i64 all = a.rows * a.m;
    float *B = a.room, *mask = B + a.rank * a.o, *inputs = mask + all, *back = inputs + all;
    float *gz = back + all, *turned = gz + a.rows * a.rank; /* (rows, rank), (rank, rows) */
    turn(B, a.B, a.o, a.rank, a.rank, a.o);
    if (a.noise) {
        masks(mask, a.noise, a.threshold, a.scale, a.rows, a.m);
        for (i64 i = 0; i < all; i++) inputs[i] = x[i] * mask[i];
        x = inputs;
    }
    narrow(gz, g, apart, B, a.rows, a.o, a.rank);
    if (gx && !a.noise) product(gx, a.m, gz, a.rank, a.A, a.m, 0, a.rows, a.rank, a.m);
    if (gx && a.noise) {
        float none[a.m];
        memset(none, 0, sizeof none);
        product(back, a.m, gz, a.rank, a.A, a.m, none, a.rows, a.rank, a.m);
        for (i64 i = 0; i < all; i++) gx[i] += back[i] * mask[i];
    }
    memset(B, 0, a.rank * a.o * sizeof(float));
    turn(turned, gz, a.rows, a.rank, a.rank, a.rows);
    product(gA, a.m, turned, a.rows, x, a.m, 0, a.rank, a.rows, a.m);
    turn(turned, a.z, a.rows, a.rank, a.rank, a.rows);
    product(B, a.o, turned, a.rows, g, apart, 0, a.rank, a.rows, a.o);
    for (i64 r = 0; r < a.rank; r++)
        for (i64 j = 0; j < a.o; j++) gB[j * a.rank + r] += B[r * a.o + j];
}

/* softmax(scale x) of the keys that a query sees; 0 for the others. Of multiples of LANES. */
static void shares_of(float *x, const float *sees, i64 across, float scale) {
    float best[LANES], sums[LANES] = {}, top = -1e30f, total = 0;
    for (i64 l = 0; l < LANES; l++) best[l] = -1e30f;
    for (i64 j = 0; j < across; j += LANES)
        for (i64 l = 0; l < LANES; l++) {
            x[j + l] = scale * x[j + l] + 1e30f * (sees[j + l] - 1.0f);
            best[l] = x[j + l] > best[l] ? x[j + l] : best[l];
        }
    for (i64 l = 0; l < LANES; l++) top = best[l] > top ? best[l] : top;
    for (i64 j = 0; j < across; j += LANES) {
        *(half *)(x + j) = exp_half(*(half *)(x + j) - top) * *(const half *)(sees + j);
        *(half *)sums += *(half *)(x + j);
    }
    for (i64 l = 0; l < LANES; l++) total += sums[l];
    total = 1.0f / total;
    for (i64 j = 0; j < across; j += LANES) *(half *)(x + j) *= total;
}

/* One head of attention: of queries and answers, and of keys and values, rows lie equally far apart. */
typedef struct {
    i64 queries, keys, used, size, apart, apart_keys, apart_shares; /* used: keys, rounded up to LANES */
    i64 apart_sees;                                                 /* 0: all queries see the same */
    float scale;
} Head;

/* Answers of a head, whose shares are kept: K is the keys turned (size, used), `sees` 1 for what is seen. */
static void attend_head(Head a, float *to, float *shares, const float *q, const float *K, const float *v,
                        const float *sees) {
    i64 most = a.used > a.size ? a.used : a.size;
    float none[most];
    memset(none, 0, sizeof none);
    product(shares, a.apart_shares, q, a.apart, K, a.used, none, a.queries, a.size, a.used);
    for (i64 i = 0; i < a.queries; i++)
        shares_of(shares + i * a.apart_shares, sees + i * a.apart_sees, a.used, a.scale);
    product(to, a.apart, shares, a.apart_shares, v, a.apart_keys, none, a.queries, a.keys, a.size);
}

/* The same where as many queries as a vector has lanes are computed side by side and all keys are seen: nothing
 * is summed across lanes. Shares are kept unless 0; queries and sizes are multiples of WIDE. Room for
 * (size + keys) WIDE numbers. */
static void attend_head_wide(Head a, float *to, float *shares, const float *q, const float *k, const float *v,
                             float *room) {
    float *turned = room, *x = turned + a.size * WIDE, none[WIDE] = {};
    for (i64 at = 0; at < a.queries; at += WIDE, q += WIDE * a.apart, to += WIDE * a.apart) {
        turn(turned, q, WIDE, a.size, a.apart, WIDE);
        product(x, WIDE, k, a.apart_keys, turned, WIDE, none, a.keys, a.size, WIDE);
        wide top = *(wide *)x, total = {};
        for (i64 j = 1; j < a.keys; j++) {
            wide each = *(wide *)(x + j * WIDE);
            wide_int more = each > top;
            top = (wide)((more & (wide_int)each) | (~more & (wide_int)top));
        }
        for (i64 j = 0; j < a.keys; j++) {
            wide each = exp_wide(a.scale * (*(wide *)(x + j * WIDE) - top));
            *(wide *)(x + j * WIDE) = each;
            total += each;
        }
        total = 1.0f / total;
        for (i64 j = 0; j < a.keys; j++) *(wide *)(x + j * WIDE) *= total;
        for (i64 d = 0; d < a.size; d += WIDE) {
            wide sum[WIDE] = {};
            for (i64 j = 0; j < a.keys; j++) {
                wide row = *(const wide *)(v + j * a.apart_keys + d);
                for (int i = 0; i < WIDE; i++) sum[i] += x[j * WIDE + i] * row;
            }
            for (int i = 0; i < WIDE; i++) *(wide *)(to + i * a.apart + d) = sum[i];
        }
        if (!shares) continue;
        turn(shares, x, a.keys, WIDE, WIDE, a.apart_shares);
        for (i64 i = 0; i < WIDE; i++, shares += a.apart_shares)
            for (i64 j = a.keys; j < a.used; j++) shares[j] = 0.0f;
    }
}

/* Gradients of queries, and added those of keys (unless 0) and values, from that of the answers, g. V is the
 * values turned (size, used); room for queries (used + keys) numbers. */
static void attend_head_backward(Head a, float *gq, float *gk, float *gv, const float *g,
                                 const float *shares, const float *q, const float *k, const float *V,
                                 float *room) {
    i64 most = a.used > a.size ? a.used : a.size;
    float none[most], *gs = room, *turned = gs + a.queries * a.used;
    memset(none, 0, sizeof none);
    product(gs, a.used, g, a.apart, V, a.used, none, a.queries, a.size, a.used);
    turn(turned, shares, a.queries, a.keys, a.apart_shares, a.queries);
    product(gv, a.apart_keys, turned, a.queries, g, a.apart, 0, a.keys, a.queries, a.size);
    for (i64 i = 0; i < a.queries; i++) {
        const float *p = shares + i * a.apart_shares;
        float *row = gs + i * a.used, sum = 0;
        for (i64 j = 0; j < a.used; j++) sum += p[j] * row[j];
        for (i64 j = 0; j < a.used; j++) row[j] = a.scale * p[j] * (row[j] - sum);
    }
    product(gq, a.apart, gs, a.used, k, a.apart_keys, none, a.queries, a.keys, a.size);
    if (!gk) return;
    turn(turned, gs, a.queries, a.keys, a.used, a.queries);
    product(gk, a.apart_keys, turned, a.queries, q, a.apart, 0, a.keys, a.queries, a.size);
}
