/* Number formats: what is computed in (REAL), what activations are kept in (ACT), and e^x.
 *
 * Compiled for float, with -DDOUBLE for double, with -DHALF for float whose activations are bfloat16, the upper half of a float's
 * bits. bfloat16 is rounded to the nearest, ties to even, as torch does it.
 */
#ifndef REAL_H
#define REAL_H
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef int64_t i64;
#define INLINE static inline __attribute__((always_inline))
/* a loop over rows, dealt out to threads; without OpenMP it is one loop in the calling thread, which does `begin` to `end` */
#define DEALT _Pragma("omp parallel for num_threads(threads) schedule(static)")
#define DEALT_ONE_BY_ONE _Pragma("omp parallel for num_threads(threads) schedule(dynamic, 1)")

#ifdef DOUBLE
typedef double real;
typedef int64_t bits;
typedef uint64_t ubits;
#define LOWEST -708.0
#define MAGIC 6755399441055744.0 /* 1.5 * 2^52: what is added to it is rounded to whole numbers, in its last bits */
#define MANTISSA 52
#define BIAS 1023
#define SQRT sqrt
#define LOG log
#else
typedef float real;
typedef int32_t bits;
typedef uint32_t ubits;
#define LOWEST -87.0f
#define MAGIC 12582912.0f /* 1.5 * 2^23 */
#define MANTISSA 23
#define BIAS 127
#define SQRT sqrtf
#define LOG logf
#endif

#ifdef HALF
typedef uint16_t act;
INLINE float real_of(act a) {
    const uint32_t wide = (uint32_t)a << 16;
    float x;
    memcpy(&x, &wide, sizeof x);
    return x;
}
INLINE act act_of(float x) {
    uint32_t wide;
    memcpy(&wide, &x, sizeof wide);
    const uint32_t rounded = (wide + 0x7fff + (wide >> 16 & 1)) >> 16;
    return (act)((wide & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded); /* NaN stays NaN */
}
#else
typedef real act;
INLINE real real_of(act a) { return a; }
INLINE act act_of(real x) { return x; }
#endif

/* e^x for x below 88 (709): x = k ln 2 + r, Taylor's series of e^r to the last bit, times 2^k. Where it would become one of the
 * denormal numbers, with which everything is slow, it is 0. */
INLINE real exponential(real x) {
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
    power = (bits)((ubits)((ubits)power - (ubits)zero + BIAS) << MANTISSA);
    memcpy(&scale, &power, sizeof scale);
    return x < (real)LOWEST ? 0 : p * scale;
}
#endif
