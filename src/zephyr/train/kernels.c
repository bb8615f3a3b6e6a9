/* Row by row what torch does in many passes over memory: norms, rotations, gated activations, the softmax of attention.
 *
 * Compiled by `kernels.py` where there is a compiler, once for REAL = float and once for double. All tensors are contiguous;
 * each function does rows `begin` to `end`, so that rows can be dealt out to threads without changing a bit of the result.
 * No flag relaxes the arithmetic: NaN stays NaN. Only sums over a row are taken in several lanes, in an order fixed by the machine.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t i64;

#ifdef DOUBLE
typedef double real;
typedef int64_t bits;
#define LOWEST -708.0
#define MAGIC 6755399441055744.0 /* 1.5 * 2^52: what is added to it is rounded to whole numbers, in its last bits */
#define MANTISSA 52
#define BIAS 1023
#define SQRT sqrt
#define LOG log
#else
typedef float real;
typedef int32_t bits;
#define LOWEST -87.0f
#define MAGIC 12582912.0f /* 1.5 * 2^23 */
#define MANTISSA 23
#define BIAS 127
#define SQRT sqrtf
#define LOG logf
#endif

/* e^x for x below 88 (709): x = k ln 2 + r, Taylor's series of e^r to the last bit, times 2^k. Where it would become one of the
 * denormal numbers, with which everything is slow, it is 0. */
static inline __attribute__((always_inline)) real exponential(real x) {
    const real shifted = x * (real)1.4426950408889634 + (real)MAGIC;
    const real k = shifted - (real)MAGIC;
#ifdef DOUBLE
    const real r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10; /* ln 2 in two parts */
    real p = 1.0 / 6227020800;
    p = p * r + 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
#else
    const real r = (x - k * 0.693359375f) - k * -2.12194440e-4f;
    real p = 1.0f / 5040;
#endif
    p = p * r + (real)(1.0 / 720);
    p = p * r + (real)(1.0 / 120);
    p = p * r + (real)(1.0 / 24);
    p = p * r + (real)(1.0 / 6);
    p = p * r + (real)0.5;
    p = p * r + 1;
    p = p * r + 1;
    bits power;
    real magic = (real)MAGIC, scale;
    bits zero;
    memcpy(&power, &shifted, sizeof power);
    memcpy(&zero, &magic, sizeof zero);
    power = (bits)(power - zero + BIAS) << MANTISSA;
    memcpy(&scale, &power, sizeof scale);
    return x < (real)LOWEST ? 0 : p * scale;
}

/* --- root mean square norm: y = x r (offset + w), r = 1 / sqrt(mean(x^2) + eps) ------------------------------------------- */

void norm_forward(i64 begin, i64 end, i64 d, const real *x, const real *w, double offset, double eps, real *y, real *r) {
    for (i64 t = begin; t < end; t++) {
        const real *xt = x + t * d;
        real *yt = y + t * d, sum = 0;
#pragma omp simd reduction(+ : sum)
        for (i64 i = 0; i < d; i++) sum += xt[i] * xt[i];
        const real rt = r[t] = 1 / SQRT(sum / (real)d + (real)eps);
#pragma omp simd
        for (i64 i = 0; i < d; i++) yt[i] = xt[i] * rt * ((real)offset + w[i]);
    }
}

/* dx = r (g v - x r^2 mean(g v x)), v = offset + w; dw = sum(g x r), a row of it for every STRETCH of the n rows: how they are
 * added up must not depend on the number of threads, to which stretches are dealt out */
#define STRETCH 256

void norm_backward(i64 begin, i64 end, i64 n, i64 d, const real *x, const real *w, double offset, const real *r, const real *g,
                   real *dx, real *dw) {
    for (i64 t = begin * STRETCH; t < n && t < end * STRETCH; t++) {
        const real *xt = x + t * d, *gt = g + t * d, rt = r[t];
        real *dxt = dx + t * d, *dwt = dw + t / STRETCH * d, dot = 0;
#pragma omp simd reduction(+ : dot)
        for (i64 i = 0; i < d; i++) {
            const real gx = gt[i] * xt[i];
            dot += gx * ((real)offset + w[i]);
            dwt[i] += gx * rt;
        }
        const real back = dot * rt * rt / (real)d;
#pragma omp simd
        for (i64 i = 0; i < d; i++) dxt[i] = rt * (gt[i] * ((real)offset + w[i]) - xt[i] * back);
    }
}

/* --- rotary positions: heads of size d, the first half of each turned against the second; back is the transposed matrix ------ */

void rotate(i64 begin, i64 end, i64 heads, i64 d, const real *x, const real *cosine, const real *sine, i64 back, real *y) {
    const i64 half = d / 2;
    const real sign = back ? -1 : 1;
    for (i64 t = begin; t < end; t++) {
        const real *c = cosine + t * d, *s = sine + t * d, *sa = back ? s + half : s, *sb = back ? s : s + half;
        for (i64 h = 0; h < heads; h++) {
            const real *a = x + (t * heads + h) * d, *b = a + half;
            real *ya = y + (t * heads + h) * d, *yb = ya + half;
#pragma omp simd
            for (i64 i = 0; i < half; i++) {
                const real ai = a[i], bi = b[i];
                ya[i] = ai * c[i] - sign * bi * sa[i];
                yb[i] = bi * c[half + i] + sign * ai * sb[i];
            }
        }
    }
}

/* --- silu(gate) * up, silu(x) = x / (1 + e^-x) ------------------------------------------------------------------------------ */

void gated_forward(i64 begin, i64 end, i64 d, const real *gate, const real *up, real *y) {
#pragma omp simd
    for (i64 i = begin * d; i < end * d; i++) {
        const real high = -gate[i] > 80 ? 80 : -gate[i];
        y[i] = gate[i] / (1 + exponential(high)) * up[i];
    }
}

void gated_backward(i64 begin, i64 end, i64 d, const real *gate, const real *up, const real *g, real *dgate, real *dup) {
#pragma omp simd
    for (i64 i = begin * d; i < end * d; i++) {
        const real high = -gate[i] > 80 ? 80 : -gate[i];
        const real sigmoid = 1 / (1 + exponential(high)), silu = gate[i] * sigmoid, gi = g[i];
        dgate[i] = gi * up[i] * (sigmoid + silu * (1 - sigmoid));
        dup[i] = gi * silu;
    }
}

/* --- attention: a block of rows, `group` of them (the heads that share a key head) for each of `positions` positions, over n
 * columns, of which the last `positions` are their own: each row sees all before, and of those up to itself ------------------ */

static inline i64 visible(i64 row, i64 group, i64 positions, i64 n) { return n - positions + row % (positions * group) / group + 1; }

/* scores to weights, in place; their log-sum-exp is kept */
void softmax_forward(i64 begin, i64 end, i64 n, i64 group, i64 positions, real *s, real *lse) {
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
void softmax_backward(i64 begin, i64 end, i64 n, i64 group, i64 positions, real *s, const real *lse, real *dp) {
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
