/* SPDX-License-Identifier: Apache-2.0 */
/* requantize.h - f32 by integers, for kernels on cores without floating point.  `uint32_t` are the bits of an f32. */
#ifndef EDGEC_REQUANTIZE_H
#define EDGEC_REQUANTIZE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* x, as f32, times a multiplier, rounded to f32 and then to the nearest integer, halves to even; at most 2^23. */
int32_t ec_requantize(int32_t x, uint32_t multiplier);

uint32_t ec_f32_scaled(int32_t x, uint32_t multiplier); /* f32(x) * multiplier; 0 instead of denormal numbers */
uint32_t ec_f32_sum(uint32_t a, uint32_t b);
int32_t ec_f32_nearest(uint32_t x);                      /* the nearest integer, halves to even; at most 2^23 */

/* x / scale, rounded to f32 and then to the nearest integer, halves to even; 0 for NaN, at least 2^17 on either side where it
 * is more. The scale is positive and no less than 2^-100; its `reciprocal` is 2^47 / mantissa, of 24 bits, rounded down. */
int32_t ec_f32_steps(uint32_t x, uint32_t scale, uint32_t reciprocal);

uint32_t ec_f32_quotient(uint32_t x, int32_t divisor);   /* x / f32(divisor), divisor > 0 */

#ifdef __cplusplus
}
#endif
#endif
