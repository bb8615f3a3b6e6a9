/* Attention over trees in bfloat16: products by the processor's own instructions for it, scores and sums in float.
 *
 * A tree is a trunk and branches; a position sees what comes before it in its own segment, itself included, and the whole trunk.
 * A unit is one tree and one key head with the `group` query heads that share it: forward and backward do units, each as a whole in
 * one thread, so the result does not depend on how many threads there are. Rows of a unit are position by position, its heads
 * within. query, out and their gradients are (T, heads, d), key and value (T, kv_heads, d), lse (T, heads); d is a multiple of 16.
 *
 * Columns of a segment are padded to whole panels of 16. A factor on the right of a product is packed: panels of 16 columns, pairs of
 * rows side by side in 32 bits, as the instruction takes them.
 */
#if defined(HALF) && defined(__AVX512BF16__)
#include "real.h"
#include <immintrin.h>
#include <stdlib.h>

#define ROWS 64  /* of a block: its scores over some thousand columns stay in the second cache */
#define CHUNK 64 /* columns at once on the way back */

typedef uint32_t pair; /* two bfloat16, the lower half the even row */

static inline i64 panels(i64 n) { return (n + 15) / 16; }
static inline i64 padded(i64 n) { return panels(n) * 16; }

/* --- products: c (m, n) = or += a (m, k) b; a row by row, b packed in n / 16 panels of k / 2 rows of 16 pairs ----------------- */

INLINE void tile(int mr, int nr, const act *a, i64 lda, const pair *b, i64 panel, i64 k, float *c, i64 ldc, int add) {
    __m512 sum[8][4];
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nr; j++) sum[i][j] = add ? _mm512_loadu_ps(c + i * ldc + j * 16) : _mm512_setzero_ps();
    for (i64 p = 0; p < k / 2; p++) {
        __m512i right[4];
        for (int j = 0; j < nr; j++) right[j] = _mm512_loadu_si512(b + j * panel + p * 16);
        for (int i = 0; i < mr; i++) {
            int32_t two;
            memcpy(&two, a + i * lda + 2 * p, sizeof two);
            const __m512i left = _mm512_set1_epi32(two);
            for (int j = 0; j < nr; j++) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], (__m512bh)left, (__m512bh)right[j]);
        }
    }
    for (int i = 0; i < mr; i++)
        for (int j = 0; j < nr; j++) _mm512_storeu_ps(c + i * ldc + j * 16, sum[i][j]);
}

INLINE void tiles(int nr, i64 m, const act *a, i64 lda, const pair *b, i64 panel, i64 k, float *c, i64 ldc, int add) {
    i64 i = 0;
    for (; i + 6 <= m; i += 6) tile(6, nr, a + i * lda, lda, b, panel, k, c + i * ldc, ldc, add);
    for (; i + 2 <= m; i += 2) tile(2, nr, a + i * lda, lda, b, panel, k, c + i * ldc, ldc, add);
    if (i < m) tile(1, nr, a + i * lda, lda, b, panel, k, c + i * ldc, ldc, add);
}

static void product(i64 m, i64 n, i64 k, const act *a, i64 lda, const pair *b, i64 panel, float *c, i64 ldc, int add) {
    i64 j = 0;
    for (; j + 4 <= n / 16; j += 4) tiles(4, m, a, lda, b + j * panel, panel, k, c + j * 16, ldc, add);
    for (; j + 2 <= n / 16; j += 2) tiles(2, m, a, lda, b + j * panel, panel, k, c + j * 16, ldc, add);
    if (j < n / 16) tiles(1, m, a, lda, b + j * panel, panel, k, c + j * 16, ldc, add);
}

/* b = x^T for rows x (n, d): columns are x's rows, of which those beyond n are 0; panel = d / 2 * 16 */
static void pack_transposed(i64 n, i64 d, const act *x, i64 stride, pair *b) {
    for (i64 j = 0; j < panels(n); j++)
        for (i64 p = 0; p < d / 2; p++)
            for (i64 i = 0; i < 16; i++) {
                pair two = 0;
                if (j * 16 + i < n) memcpy(&two, x + (j * 16 + i) * stride + 2 * p, sizeof two);
                b[(j * (d / 2) + p) * 16 + i] = two;
            }
}

/* b = x for rows x (n, d): pairs of x's rows, of which those beyond n are 0; panel = padded(n) / 2 * 16 */
static void pack(i64 n, i64 d, const act *x, i64 stride, pair *b) {
    const i64 half = padded(n) / 2;
    for (i64 j = 0; j < d / 16; j++)
        for (i64 p = 0; p < half; p++) {
            const act *even = x + 2 * p * stride + j * 16, *odd = even + stride;
            pair *to = b + (j * half + p) * 16;
            for (i64 i = 0; i < 16; i++) to[i] = (2 * p < n ? (pair)even[i] : 0) | (2 * p + 1 < n ? (pair)odd[i] << 16 : 0);
        }
}

/* --- what a unit works on ----------------------------------------------------------------------------------------------------- */

typedef struct {
    i64 heads, kv_heads, d, group; /* heads = kv_heads * group */
    i64 first;                     /* position of the tree's first token */
    i64 head;                      /* key head */
    i64 segments;                  /* trunk and branches */
    const i64 *length;             /* of each */
} Unit;

static Unit unit_of(i64 number, i64 heads, i64 kv_heads, i64 d, const i64 *tree_first, const i64 *tree_segment, const i64 *length) {
    const i64 tree = number / kv_heads;
    const Unit u = {heads, kv_heads, d, heads / kv_heads, tree_first[tree], number % kv_heads, tree_segment[tree + 1] - tree_segment[tree],
                    length + tree_segment[tree]};
    return u;
}

/* positions of a block: with its heads ROWS rows at most */
static i64 block_positions(const Unit *u) { return u->group < ROWS ? ROWS / u->group : 1; }

/* rows of a block, side by side: (positions * group, d) of x (T, heads, d) */
static void gather(const Unit *u, const act *x, i64 position, i64 positions, act *rows) {
    const i64 size = u->group * u->d;
    for (i64 p = 0; p < positions; p++)
        memcpy(rows + p * size, x + ((position + p) * u->heads + u->head * u->group) * u->d, (size_t)size * sizeof(act));
}

static i64 longest(const Unit *u) {
    i64 most = 0;
    for (i64 s = 1; s < u->segments; s++) most = u->length[s] > most ? u->length[s] : most;
    return most;
}

static i64 padded_tree(const Unit *u) {
    i64 all = 0;
    for (i64 s = 0; s < u->segments; s++) all += padded(u->length[s]);
    return all;
}

/* a thread's memory, of which parts are taken one after the other, each at a cache line */
static void *taken(char **free_, i64 bytes) {
    void *here = *free_;
    *free_ += (bytes + 63) / 64 * 64;
    return here;
}

static i64 block_rows(const Unit *u) { return padded(block_positions(u) * u->group); }

/* --- forward ------------------------------------------------------------------------------------------------------------------ */

static int unit_forward(const Unit *u, const act *query, const act *key, const act *value, float scale, act *out, float *lse) {
    const i64 d = u->d, all = padded_tree(u), row_stride = u->kv_heads * d, rows_most = block_rows(u);
    const i64 columns_most = padded(u->length[0]) + padded(longest(u));
    char *room = malloc((size_t)(all * d * 4 + rows_most * (d * 6 + columns_most * 6) + 64 * 8)), *free_ = room;
    if (!room) return 0;
    pair *keys = taken(&free_, all * d * 2), *values = taken(&free_, all * d * 2); /* segment after segment */
    act *rows = taken(&free_, rows_most * d * 2), *weights = taken(&free_, rows_most * columns_most * 2);
    float *scores = taken(&free_, rows_most * columns_most * 4), *sums = taken(&free_, rows_most * d * 4);

    i64 position = u->first, at = 0;
    for (i64 s = 0; s < u->segments; s++) {
        const i64 n = u->length[s], size = padded(n);
        pack_transposed(n, d, key + position * row_stride + u->head * d, row_stride, keys + at * d / 2);
        pack(n, d, value + position * row_stride + u->head * d, row_stride, values + at * d / 2);
        const i64 trunk = s ? u->length[0] : 0, trunk_size = padded(trunk);
        for (i64 from = 0; from < n; from += block_positions(u)) {
            const i64 positions = from + block_positions(u) < n ? block_positions(u) : n - from, m = positions * u->group;
            const i64 own = padded(from + positions), columns = trunk_size + own;
            gather(u, query, position + from, positions, rows);
            if (trunk) product(m, trunk_size, d, rows, d, keys, d / 2 * 16, scores, columns, 0);
            product(m, own, d, rows, d, keys + at * d / 2, d / 2 * 16, scores + trunk_size, columns, 0);
            for (i64 r = 0; r < m; r++) {
                const i64 seen = from + r / u->group + 1;
                float *score = scores + r * columns, *mine = score + trunk_size, most = mine[0] * scale, sum = 0;
                act *weight = weights + r * columns;
#pragma omp simd reduction(max : most)
                for (i64 i = 0; i < trunk; i++) most = score[i] * scale > most ? score[i] * scale : most;
#pragma omp simd reduction(max : most)
                for (i64 i = 0; i < seen; i++) most = mine[i] * scale > most ? mine[i] * scale : most;
#pragma omp simd reduction(+ : sum)
                for (i64 i = 0; i < trunk; i++) sum += score[i] = exponential(score[i] * scale - most);
#pragma omp simd reduction(+ : sum)
                for (i64 i = 0; i < seen; i++) sum += mine[i] = exponential(mine[i] * scale - most);
                for (i64 i = trunk; i < trunk_size; i++) score[i] = 0;
                for (i64 i = seen; i < own; i++) mine[i] = 0;
                const float part = 1 / sum;
#pragma omp simd
                for (i64 i = 0; i < columns; i++) weight[i] = act_of(score[i] * part);
                lse[(position + from + r / u->group) * u->heads + u->head * u->group + r % u->group] = most + logf(sum);
            }
            if (trunk) product(m, d, trunk_size, weights, columns, values, trunk_size / 2 * 16, sums, d, 0);
            product(m, d, own, weights + trunk_size, columns, values + at * d / 2, size / 2 * 16, sums, d, trunk > 0);
            for (i64 p = 0; p < positions; p++) {
                act *to = out + ((position + from + p) * u->heads + u->head * u->group) * d;
#pragma omp simd
                for (i64 i = 0; i < u->group * d; i++) to[i] = act_of(sums[p * u->group * d + i]);
            }
        }
        position += n, at += size;
    }
    free(room);
    return 1;
}

/* --- backward: everything transposed, columns by rows, so that what is known of a row lies across lanes ------------------------- */

typedef struct {
    i64 rows, padded_rows;         /* of the block */
    pair *query_t, *grad_t;        /* (d, rows) packed: pairs along d */
    pair *query, *grad;            /* (rows, d) packed: pairs along rows */
    float *lse, *delta;            /* of each row; delta = sum(out * grad) */
    float *d_query_t;              /* (d, rows) */
    float *scores, *d_scores;      /* (CHUNK, rows) */
    act *weights_half, *d_half;    /* the same, rounded */
    pair *d_packed;                /* (CHUNK, rows) packed: pairs along columns */
} Block;

/* what `n` columns from `from` on of a segment add: to their keys' and values' gradients and to the rows' */
static void chunk_backward(const Unit *u, Block *b, i64 from, i64 n, i64 causal_from, const act *key, const act *value, i64 stride,
                           const act *key_t, i64 key_t_stride, float scale, float *d_key, float *d_value) {
    const i64 d = u->d, r_size = b->padded_rows;
    product(n, r_size, d, key + from * stride, stride, b->query_t, d / 2 * 16, b->scores, r_size, 0);
    product(n, r_size, d, value + from * stride, stride, b->grad_t, d / 2 * 16, b->d_scores, r_size, 0);
    for (i64 c = 0; c < n; c++) {
        float *s = b->scores + c * r_size, *ds = b->d_scores + c * r_size;
        /* in the rows' own segment a column is seen by the rows from its own position on */
        const i64 hidden = causal_from < 0 ? 0 : (from + c - causal_from) * u->group, before = hidden < 0 ? 0 : hidden;
#pragma omp simd
        for (i64 r = 0; r < r_size; r++) {
            const float p = r < before ? 0 : exponential(s[r] * scale - b->lse[r]);
            ds[r] = p * (ds[r] - b->delta[r]) * scale;
            b->weights_half[c * r_size + r] = act_of(p);
            b->d_half[c * r_size + r] = act_of(ds[r]);
        }
    }
    product(n, d, r_size, b->weights_half, r_size, b->grad, r_size / 2 * 16, d_value + from * d, d, 1);
    product(n, d, r_size, b->d_half, r_size, b->query, r_size / 2 * 16, d_key + from * d, d, 1);
    if (n % 2) memset(b->d_half + n * r_size, 0, (size_t)r_size * sizeof(act)); /* a column more, to make a pair */
    const i64 pairs = (n + 1) / 2;
    for (i64 j = 0; j < r_size / 16; j++)
        for (i64 p = 0; p < pairs; p++) {
            const act *even = b->d_half + 2 * p * r_size + j * 16, *odd = even + r_size;
            pair *to = b->d_packed + (j * CHUNK / 2 + p) * 16;
#pragma omp simd
            for (i64 i = 0; i < 16; i++) to[i] = (pair)even[i] | (pair)odd[i] << 16;
        }
    product(d, r_size, 2 * pairs, key_t + from, key_t_stride, b->d_packed, CHUNK / 2 * 16, b->d_query_t, r_size, 1);
}

static int unit_backward(const Unit *u, const act *query, const act *key, const act *value, const act *out, const float *lse,
                         const act *grad, float scale, act *d_query, act *d_key, act *d_value) {
    const i64 d = u->d, group = u->group, all = padded_tree(u), stride = u->kv_heads * d, most = block_rows(u);
    const i64 block_bytes = most * (d * 2 * 4 + d * 4 + d * 2 * 2 + 8) + CHUNK * most * (8 + 4 + 2);
    char *room = malloc((size_t)(all * d * (2 + 8) + block_bytes + 64 * 20)), *free_ = room;
    if (!room) return 0;
    act *key_t = taken(&free_, all * d * 2); /* (d, all), segment after segment */
    float *d_keys = taken(&free_, all * d * 4), *d_values = taken(&free_, all * d * 4);
    memset(d_keys, 0, (size_t)(all * d) * sizeof(float));
    memset(d_values, 0, (size_t)(all * d) * sizeof(float));
    Block b;
    b.query_t = taken(&free_, most * d * 2), b.grad_t = taken(&free_, most * d * 2);
    b.query = taken(&free_, most * d * 2), b.grad = taken(&free_, most * d * 2);
    b.lse = taken(&free_, most * 4), b.delta = taken(&free_, most * 4);
    b.d_query_t = taken(&free_, most * d * 4);
    b.scores = taken(&free_, CHUNK * most * 4), b.d_scores = taken(&free_, CHUNK * most * 4);
    b.weights_half = taken(&free_, CHUNK * most * 2), b.d_half = taken(&free_, CHUNK * most * 2);
    b.d_packed = taken(&free_, CHUNK * most * 2);
    act *rows = taken(&free_, most * d * 2), *grad_rows = taken(&free_, most * d * 2);

    memset(key_t, 0, (size_t)(all * d) * sizeof(act)); /* padding is multiplied by 0 and must not be NaN */
    i64 position = u->first, at = 0;
    for (i64 s = 0; s < u->segments; s++) {
        const act *k = key + position * stride + u->head * d;
        for (i64 c = 0; c < u->length[s]; c++)
            for (i64 i = 0; i < d; i++) key_t[i * all + at + c] = k[c * stride + i];
        position += u->length[s], at += padded(u->length[s]);
    }
    position = u->first, at = 0;
    for (i64 s = 0; s < u->segments; s++) {
        const i64 n = u->length[s], trunk = s ? u->length[0] : 0;
        const act *k = key + u->head * d, *v = value + u->head * d;
        for (i64 from = 0; from < n; from += block_positions(u)) {
            const i64 positions = from + block_positions(u) < n ? block_positions(u) : n - from;
            b.rows = positions * group, b.padded_rows = padded(b.rows);
            gather(u, query, position + from, positions, rows);
            gather(u, grad, position + from, positions, grad_rows);
            pack_transposed(b.rows, d, rows, d, b.query_t), pack(b.rows, d, rows, d, b.query);
            pack_transposed(b.rows, d, grad_rows, d, b.grad_t), pack(b.rows, d, grad_rows, d, b.grad);
            for (i64 r = 0; r < b.padded_rows; r++) {
                b.lse[r] = 1e30f, b.delta[r] = 0; /* a row that pads: all its weights are 0 */
                if (r >= b.rows) continue;
                const i64 row = (position + from + r / group) * u->heads + u->head * group + r % group;
                float sum = 0;
#pragma omp simd reduction(+ : sum)
                for (i64 i = 0; i < d; i++) sum += real_of(out[row * d + i]) * real_of(grad[row * d + i]);
                b.lse[r] = lse[row], b.delta[r] = sum;
            }
            memset(b.d_query_t, 0, (size_t)(d * b.padded_rows) * sizeof(float));
            for (i64 c = 0; c < trunk; c += CHUNK)
                chunk_backward(u, &b, c, trunk - c < CHUNK ? trunk - c : CHUNK, -1, k + u->first * stride, v + u->first * stride, stride,
                               key_t, all, scale, d_keys, d_values);
            const i64 own = from + positions;
            for (i64 c = 0; c < own; c += CHUNK)
                chunk_backward(u, &b, c, own - c < CHUNK ? own - c : CHUNK, from, k + position * stride, v + position * stride, stride,
                               key_t + at, all, scale, d_keys + at * d, d_values + at * d);
            for (i64 r = 0; r < b.rows; r++) {
                act *to = d_query + ((position + from + r / group) * u->heads + u->head * group + r % group) * d;
                for (i64 i = 0; i < d; i++) to[i] = act_of(b.d_query_t[i * b.padded_rows + r]);
            }
        }
        position += n, at += padded(n);
    }
    position = u->first, at = 0;
    for (i64 s = 0; s < u->segments; s++) {
        for (i64 c = 0; c < u->length[s]; c++) {
            act *dk = d_key + (position + c) * stride + u->head * d, *dv = d_value + (position + c) * stride + u->head * d;
#pragma omp simd
            for (i64 i = 0; i < d; i++) {
                dk[i] = act_of(d_keys[(at + c) * d + i]);
                dv[i] = act_of(d_values[(at + c) * d + i]);
            }
        }
        position += u->length[s], at += padded(u->length[s]);
    }
    free(room);
    return 1;
}

/* --- units are taken by whichever thread is free --------------------------------------------------------------------------------- */

/* tree_first: position of each tree's first token; tree_segment: number of its first segment, one more at the end; length: of each
 * segment; failed: how many units there was no memory for */
void attention_forward(i64 begin, i64 end, i64 threads, i64 heads, i64 kv_heads, i64 d, double scale, const i64 *tree_first,
                       const i64 *tree_segment, const i64 *length, i64 *failed, const act *query, const act *key, const act *value,
                       act *out, float *lse) {
    DEALT_ONE_BY_ONE
    for (i64 n = begin; n < end; n++) {
        const Unit u = unit_of(n, heads, kv_heads, d, tree_first, tree_segment, length);
        if (!unit_forward(&u, query, key, value, (float)scale, out, lse)) __atomic_fetch_add(failed, 1, __ATOMIC_RELAXED);
    }
}

void attention_backward(i64 begin, i64 end, i64 threads, i64 heads, i64 kv_heads, i64 d, double scale, const i64 *tree_first,
                        const i64 *tree_segment, const i64 *length, i64 *failed, const act *query, const act *key, const act *value,
                        const act *out, const float *lse, const act *grad, act *d_query, act *d_key, act *d_value) {
    DEALT_ONE_BY_ONE
    for (i64 n = begin; n < end; n++) {
        const Unit u = unit_of(n, heads, kv_heads, d, tree_first, tree_segment, length);
        const int done = unit_backward(&u, query, key, value, out, lse, grad, (float)scale, d_query, d_key, d_value);
        if (!done) __atomic_fetch_add(failed, 1, __ATOMIC_RELAXED);
    }
}
#endif
