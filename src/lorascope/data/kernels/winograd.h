/* Convolutions 3 x 3 of framed pictures by Winograd's F(4 x 4, 3 x 3): 36 products for 16 places, not 144.
 *
 * A tile of 6 x 6 places makes 4 x 4. In both directions it is taken to six points, 0, +-5/8, +-3/2 and
 * infinity, at which a convolution is a product. With the usual ones, 0, +-1, +-2, float32 is 1.3e-6 from the
 * exact sums, with these 6e-7 (9 taps: 4e-7; on the bundled base), since their powers lie nearer to 1.
 */
#include "tiles.h"

#define SIDE 4    /* of the places that a tile makes */
#define POINTS 36 /* of a tile */
#define TILES 24  /* multiplied at once, at most: the fewer, the more often weights are read, the more, the less
                   * stays in the cache; 16 and 24 cost the same, 8 and 32 some percent more */
#define NEAR 0.625f
#define FAR 1.5f

/* Of pictures h x w with a frame: how many tiles, and how many places of each line and of the whole frame. */
typedef struct {
    i64 h, w, down, across, line, frame;
} Tiling;

static Tiling tiling_of(i64 h, i64 w) {
    i64 down = (h + SIDE - 1) / SIDE, across = (w + SIDE - 1) / SIDE, line = SIDE * across + 2;
    return (Tiling){h, w, down, across, line, line * (SIDE * down + 2)};
}

/* How many of n pictures are convolved at once: those of TILES tiles, but as many each time. */
static i64 together(Tiling t, i64 n) {
    i64 most = TILES / (t.down * t.across);
    if (most < 2) return 1;
    i64 times = (n + most - 1) / most, each = (n + times - 1) / times;
    return (each + 3) / 4 * 4 < most ? (each + 3) / 4 * 4 : most;
}

/* Some neighbouring channels: a tile's 6 x 6 places, each `c` numbers apart in lines of `line` places, at the
 * points (POINTS, c); and the 4 x 4 places of products (POINTS, d), of which rows x columns lie in the picture.
 * To these is added `first`, or, without it, y. */
#define WINOGRAD(NAME, VEC)                                                                       \
    static inline void values_##NAME(VEC *to, i64 apart, const VEC *x) {                          \
        const float n = NEAR * NEAR, f = FAR * FAR;                                               \
        VEC even = x[4] - f * x[2], odd = NEAR * (x[3] - f * x[1]);                               \
        VEC last = x[4] - n * x[2], turn = FAR * (x[3] - n * x[1]);                               \
        to[0] = n * f * x[0] - (n + f) * x[2] + x[4];                                             \
        to[apart] = even + odd;                                                                   \
        to[2 * apart] = even - odd;                                                               \
        to[3 * apart] = last + turn;                                                              \
        to[4 * apart] = last - turn;                                                              \
        to[5 * apart] = n * f * x[1] - (n + f) * x[3] + x[5];                                     \
    }                                                                                             \
    static inline void places_##NAME(VEC *to, i64 apart, const VEC *m) {                          \
        const float n = NEAR * NEAR, f = FAR * FAR;                                               \
        VEC near = m[1] + m[2], far = m[3] + m[4], less = NEAR * (m[1] - m[2]);                   \
        VEC more = FAR * (m[3] - m[4]);                                                           \
        to[0] = m[0] + near + far;                                                                \
        to[apart] = less + more;                                                                  \
        to[2 * apart] = n * near + f * far;                                                       \
        to[3 * apart] = n * less + f * more + m[5];                                               \
    }                                                                                             \
    static void spread_##NAME(float *to, const float *x, i64 line, i64 c) {                       \
        VEC between[POINTS] __attribute__((aligned(64)));                                         \
        for (i64 j = 0; j < 6; j++) {                                                             \
            VEC column[6];                                                                        \
            for (i64 i = 0; i < 6; i++) column[i] = *(const VEC *)(x + (i * line + j) * c);       \
            values_##NAME(between + j, 6, column);                                                \
        }                                                                                         \
        for (i64 i = 0; i < 6; i++) {                                                             \
            VEC row[6];                                                                           \
            values_##NAME(row, 1, between + 6 * i);                                               \
            for (i64 j = 0; j < 6; j++) *(VEC *)(to + (6 * i + j) * c) = row[j];                  \
        }                                                                                         \
    }                                                                                             \
    static void gather_##NAME(float *y, const float *m, const float *first, i64 w, i64 d,         \
                              i64 rows, i64 columns) {                                            \
        VEC between[6 * SIDE] __attribute__((aligned(64)));                                       \
        for (i64 j = 0; j < 6; j++) {                                                             \
            VEC column[6];                                                                        \
            for (i64 i = 0; i < 6; i++) column[i] = *(const VEC *)(m + (6 * i + j) * d);          \
            places_##NAME(between + j, 6, column);                                                \
        }                                                                                         \
        for (i64 i = 0; i < rows; i++, y += w * d) {                                              \
            VEC row[SIDE];                                                                        \
            places_##NAME(row, 1, between + 6 * i);                                               \
            for (i64 j = 0; j < columns; j++)                                                     \
                *(VEC *)(y + j * d) = row[j] + *(const VEC *)(first ? first : y + j * d);         \
        }                                                                                         \
    }
WINOGRAD(wide, wide)
WINOGRAD(half, half)

/* Weights (9, c, d) as values at the points: of each a matrix (c, d), the columns of a tile side by side. */
void at_points(const float *W, float *to, i64 c, i64 d) {
    const double points[5] = {0, NEAR, -NEAR, FAR, -FAR};
    double G[6][3] = {[5] = {0, 0, 1}};
    for (i64 i = 0; i < 5; i++) {
        double by = 1;
        for (i64 j = 0; j < 5; j++) by *= j == i ? 1 : points[i] - points[j];
        for (i64 k = 0; k < 3; k++) G[i][k] = (k == 0 ? 1 : k == 1 ? points[i] : points[i] * points[i]) / by;
    }
    for (i64 p = 0; p < POINTS; p++)
        for (i64 j = 0, width; j < d; j += width) {
            width = width_of(d - j);
            for (i64 k = 0; k < c; k++, to += width)
                for (i64 l = 0; l < width; l++) {
                    double sum = 0;
                    for (i64 t = 0; t < 9; t++)
                        sum += G[p / 6][t / 3] * G[p % 6][t % 3] * W[(t * c + k) * d + j + l];
                    to[l] = (float)sum;
                }
        }
}

/* Numbers of room that `convolve_tiles` needs. */
static i64 tiles_room(i64 c, i64 d) { return TILES * POINTS * (c + d); }

/* y (n, h w, d) = first + the convolution of framed pictures (n, frame, c), their firsts `apart` numbers apart;
 * without `first` it is added to y. W as `at_points` makes it, `none` zeros. Each tile's sums are its own. */
static void convolve_tiles(float *y, const float *x, const float *W, const float *first, i64 apart,
                           const float *none, Tiling t, i64 n, i64 c, i64 d, float *room) {
    i64 each = t.down * t.across, all = n * each, times = (all + TILES - 1) / TILES, tap = 0;
    i64 some = (all + times - 1) / times;
    float *values = room, *products = room + TILES * POINTS * c;
    for (i64 at = 0; at < all; at += some) {
        i64 count = all - at < some ? all - at : some;
        for (i64 i = 0; i < count; i++) {
            i64 k = (at + i) / each, down = (at + i) % each / t.across, across = (at + i) % t.across;
            const float *from = x + (k * t.frame + SIDE * (down * t.line + across)) * c;
            float *to = values + i * POINTS * c;
#define SPREAD(NAME) spread_##NAME(to + j, from + j, t.line, c)
            EACH(SPREAD, c)
        }
        for (i64 p = 0; p < POINTS; p++)
            multiply((Rows){products + p * d, values + p * c, count, POINTS * d, 1, POINTS * c, c},
                     W + p * c * d, 0, none, d, &tap, 1);
        for (i64 i = 0; i < count; i++) {
            i64 k = (at + i) / each, down = (at + i) % each / t.across, across = (at + i) % t.across;
            i64 rows = t.h - SIDE * down < SIDE ? t.h - SIDE * down : SIDE;
            i64 columns = t.w - SIDE * across < SIDE ? t.w - SIDE * across : SIDE;
            float *to = y + ((k * t.h + SIDE * down) * t.w + SIDE * across) * d;
            const float *from = products + i * POINTS * d, *start = first ? first + k * apart : 0;
#define GATHER(NAME) gather_##NAME(to + j, from + j, start ? start + j : 0, t.w, d, rows, columns)
            EACH(GATHER, d)
        }
    }
}
