/* Row by row what torch does in many passes over memory: norms, rotations, gated activations, the softmax of attention, that of
 * the vocabulary.
 *
 * Compiled by `kernels.py` where there is a compiler, once for each number format of real.h. All tensors are contiguous;
 * each function does rows `begin` to `end` in `threads` threads, where there is OpenMP; how many changes no bit of the result.
 * No flag relaxes the arithmetic: NaN stays NaN. Only sums over a row are taken in several lanes, in an order fixed by the machine.
 */
#include "real.h"

#ifdef _OPENMP
const int parallel = 1;
#else
const int parallel = 0; /* whoever calls has to */
#endif

/* --- root mean square norm: y = x r (offset + w), r = 1 / sqrt(mean(x^2) + eps) ------------------------------------------- */

void norm_forward(i64 begin, i64 end, i64 threads, i64 d, const real *x, const real *w, double offset, double eps, act *y, real *r) {
    DEALT
    for (i64 t = begin; t < end; t++) {
        const real *xt = x + t * d;
        act *yt = y + t * d;
        real sum = 0;
#pragma omp simd reduction(+ : sum)
        for (i64 i = 0; i < d; i++) sum += xt[i] * xt[i];
        const real rt = r[t] = 1 / SQRT(sum / (real)d + (real)eps);
#pragma omp simd
        for (i64 i = 0; i < d; i++) yt[i] = act_of(xt[i] * rt * ((real)offset + w[i]));
    }
}

/* dx = r (g v - x r^2 mean(g v x)), v = offset + w; dw = sum(g x r), a row of it for every STRETCH of the n rows: how they are
 * added up must not depend on the number of threads, to which stretches are dealt out */
#define STRETCH 256

void norm_backward(i64 begin, i64 end, i64 threads, i64 n, i64 d, const real *x, const real *w, double offset, const real *r, const act *g,
                   real *dx, real *dw) {
    DEALT
    for (i64 stretch = begin; stretch < end; stretch++) {
        const i64 stop = (stretch + 1) * STRETCH < n ? (stretch + 1) * STRETCH : n;
        for (i64 t = stretch * STRETCH; t < stop; t++) {
            const real *xt = x + t * d, rt = r[t];
            const act *gt = g + t * d;
            real *dxt = dx + t * d, *dwt = dw + stretch * d, dot = 0;
#pragma omp simd reduction(+ : dot)
            for (i64 i = 0; i < d; i++) {
                const real gx = real_of(gt[i]) * xt[i];
                dot += gx * ((real)offset + w[i]);
                dwt[i] += gx * rt;
            }
            const real back = dot * rt * rt / (real)d;
#pragma omp simd
            for (i64 i = 0; i < d; i++) dxt[i] = rt * (real_of(gt[i]) * ((real)offset + w[i]) - xt[i] * back);
        }
    }
}

/* --- rotary positions: heads of size d, the first half of each turned against the second; back is the transposed matrix ------ */

void rotate(i64 begin, i64 end, i64 threads, i64 heads, i64 d, const act *x, const real *cosine, const real *sine, i64 back, act *y) {
    const i64 half = d / 2;
    const real sign = back ? -1 : 1;
    DEALT
    for (i64 t = begin; t < end; t++) {
        const real *c = cosine + t * d, *s = sine + t * d, *sa = back ? s + half : s, *sb = back ? s : s + half;
        for (i64 h = 0; h < heads; h++) {
            const act *a = x + (t * heads + h) * d, *b = a + half;
            act *ya = y + (t * heads + h) * d, *yb = ya + half;
#pragma omp simd
            for (i64 i = 0; i < half; i++) {
                const real ai = real_of(a[i]), bi = real_of(b[i]);
                ya[i] = act_of(ai * c[i] - sign * bi * sa[i]);
                yb[i] = act_of(bi * c[half + i] + sign * ai * sb[i]);
            }
        }
    }
}

/* --- silu(gate) * up, silu(x) = x / (1 + e^-x) ------------------------------------------------------------------------------ */

void gated_forward(i64 begin, i64 end, i64 threads, i64 d, const act *gate, const act *up, act *y) {
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (i64 i = begin * d; i < end * d; i++) {
        const real x = real_of(gate[i]), high = -x > 80 ? 80 : -x;
        y[i] = act_of(x / (1 + exponential(high)) * real_of(up[i]));
    }
}

void gated_backward(i64 begin, i64 end, i64 threads, i64 d, const act *gate, const act *up, const act *g, act *dgate, act *dup) {
#pragma omp parallel for simd num_threads(threads) schedule(static)
    for (i64 i = begin * d; i < end * d; i++) {
        const real x = real_of(gate[i]), high = -x > 80 ? 80 : -x;
        const real sigmoid = 1 / (1 + exponential(high)), silu = x * sigmoid, gi = real_of(g[i]);
        dgate[i] = act_of(gi * real_of(up[i]) * (sigmoid + silu * (1 - sigmoid)));
        dup[i] = act_of(gi * silu);
    }
}

/* --- the softmax of the vocabulary: v logits a row ---------------------------------------------------------------------------- */

#define LANES_SUM 1024 /* terms added up in `real` before they go into a double: a vocabulary has many */

/* log p of a row's target, and the log-sum-exp of its logits */
void target_logprob(i64 begin, i64 end, i64 threads, i64 v, const act *logits, const i64 *target, real *logprob, real *lse) {
    DEALT
    for (i64 row = begin; row < end; row++) {
        const act *l = logits + row * v;
        real most = real_of(l[0]);
        double sum = 0;
#pragma omp simd reduction(max : most)
        for (i64 i = 0; i < v; i++) most = real_of(l[i]) > most ? real_of(l[i]) : most;
        for (i64 from = 0; from < v; from += LANES_SUM) {
            const i64 to = from + LANES_SUM < v ? from + LANES_SUM : v;
            real part = 0;
#pragma omp simd reduction(+ : part)
            for (i64 i = from; i < to; i++) part += exponential(real_of(l[i]) - most);
            sum += part;
        }
        lse[row] = (real)(most + log(sum));
        logprob[row] = (real)(real_of(l[target[row]]) - most - log(sum));
    }
}

/* logits to -d log p(target) / d logits = softmax - onehot, in place */
void target_logprob_backward(i64 begin, i64 end, i64 threads, i64 v, act *logits, const i64 *target, const real *lse) {
    DEALT
    for (i64 row = begin; row < end; row++) {
        act *l = logits + row * v;
        const real whole = lse[row], own = real_of(l[target[row]]) - whole;
#pragma omp simd
        for (i64 i = 0; i < v; i++) l[i] = act_of(exponential(real_of(l[i]) - whole));
        l[target[row]] = act_of(exponential(own) - 1);
    }
}

#ifndef HALF /* scores are not rounded that far: attention.c */
/* --- attention: a block of rows, `group` of them (the heads that share a key head) for each of `positions` positions, over n
 * columns, of which the last `positions` are their own: each row sees all before, and of those up to itself ------------------ */

static inline i64 visible(i64 row, i64 group, i64 positions, i64 n) { return n - positions + row % (positions * group) / group + 1; }

/* scores to weights, in place; their log-sum-exp is kept */
void softmax_forward(i64 begin, i64 end, i64 threads, i64 n, i64 group, i64 positions, real *s, real *lse) {
    DEALT
    for (i64 row = begin; row < end; row++) {
        real *p = s + row * n, most = p[0], sum = 0;
        const i64 seen = visible(row, group, positions, n);
#pragma omp simd reduction(max : most)
        for (i64 i = 0; i < seen; i++) most = p[i] > most ? p[i] : most;
#pragma omp simd reduction(+ : sum)
        for (i64 i = 0; i < seen; i++) {
            const real e = exponential(p[i] - most);
            p[i] = e;
            sum += e;
        }
        const real scale = 1 / sum;
#pragma omp simd
        for (i64 i = 0; i < seen; i++) p[i] *= scale;
        memset(p + seen, 0, (size_t)(n - seen) * sizeof(real));
        lse[row] = most + LOG(sum);
    }
}

/* scores to weights p again, and the gradient of the weights to that of the scores, p (dp - sum(p dp)), both in place */
void softmax_backward(i64 begin, i64 end, i64 threads, i64 n, i64 group, i64 positions, real *s, const real *lse, real *dp) {
    DEALT
    for (i64 row = begin; row < end; row++) {
        real *p = s + row * n, *d = dp + row * n, dot = 0;
        const real whole = lse[row];
        const i64 seen = visible(row, group, positions, n);
#pragma omp simd reduction(+ : dot)
        for (i64 i = 0; i < seen; i++) {
            const real e = exponential(p[i] - whole);
            p[i] = e;
            dot += e * d[i];
        }
#pragma omp simd
        for (i64 i = 0; i < seen; i++) d[i] = p[i] * (d[i] - dot);
        memset(p + seen, 0, (size_t)(n - seen) * sizeof(real));
        memset(d + seen, 0, (size_t)(n - seen) * sizeof(real));
    }
}
#endif
