/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic of f32 by integers, for cores without floating point: what turns int32 sums into bytes, bit for bit as
 * docs/quantization.md says.  Kernels call it; no operation here needs a function of the compiler's library, 64-bit
 * products and shifts on Armv6-M among them.  Infinities and NaN do not occur: multipliers are quotients of scales. */
#include "edgec/edgec.h"
#include "edgec/requantize.h"

/* mantissa * 2^exponent; the mantissa has 24 bits, or is 0. */
typedef struct number {
    uint32_t mantissa;
    int32_t exponent;
    uint32_t sign; /* 1: negative */
} number;

static const uint32_t HIDDEN = 1U << 23; /* the bit of a mantissa that f32 does not store */

/* How many bits `x` has. */
static int32_t width(uint32_t x)
{
    int32_t bits = 0;
    for (int32_t half = 16; half > 0; half >>= 1) {
        if (x >> half != 0) {
            x >>= half;
            bits += half;
        }
    }
    return bits + (int32_t)x;
}

/* x / 2^shift, 0 < shift < 32, to the nearest integer, halves to even; `below`: whether x stands for a little more. */
static uint32_t halved(uint32_t x, int32_t shift, uint32_t below)
{
    const uint32_t half = 1U << (shift - 1), rest = x & (half + half - 1);
    const uint32_t kept = x >> shift;
    return kept + (rest > half || (rest == half && (below | (kept & 1)) != 0));
}

/* (high * 2^32 + low) * 2^exponent, rounded to 24 bits. */
static number rounded(uint32_t high, uint32_t low, int32_t exponent, uint32_t sign)
{
    uint32_t below = 0;
    if (high != 0) { /* the 32 most significant bits, and whether any follow */
        const int32_t drop = width(high);
        below = drop == 32 ? low : low << (32 - drop);
        low = drop == 32 ? high : (high << (32 - drop)) | (low >> drop);
        exponent += drop;
    }
    const int32_t drop = width(low) - 24;
    number made = {low, exponent, sign};
    if (drop > 0) {
        made.mantissa = halved(low, drop, below != 0);
        made.exponent += drop;
        if (made.mantissa == 2 * HIDDEN) {
            made.mantissa = HIDDEN;
            made.exponent++;
        }
    } else if (low != 0) {
        made.mantissa = low << -drop;
        made.exponent += drop;
    }
    return made;
}

static number of_int(int32_t x)
{
    return rounded(0, x < 0 ? 0U - (uint32_t)x : (uint32_t)x, 0, x < 0);
}

static number of_bits(uint32_t bits)
{
    const uint32_t fraction = bits & (HIDDEN - 1), biased = (bits >> 23) & 255;
    return rounded(0, biased == 0 ? fraction : fraction | HIDDEN, biased == 0 ? -149 : (int32_t)biased - 150, bits >> 31);
}

/* Results that f32 holds as denormal are 0: added to anything, or rounded to an integer, they make no difference. */
static uint32_t to_bits(number x)
{
    const int32_t biased = x.exponent + 150;
    if (x.mantissa == 0 || biased <= 0)
        return 0;
    return x.sign << 31 | (biased >= 255 ? 0x7F7FFFFFU : (uint32_t)biased << 23 | (x.mantissa & (HIDDEN - 1)));
}

static number product(number a, number b)
{
    const uint32_t a_low = a.mantissa & 0xFFFF, a_high = a.mantissa >> 16;
    const uint32_t b_low = b.mantissa & 0xFFFF, b_high = b.mantissa >> 16;
    const uint32_t middle = a_low * b_high + a_high * b_low, first = a_low * b_low, low = first + (middle << 16);
    return rounded(a_high * b_high + (middle >> 16) + (low < first), low, a.exponent + b.exponent, a.sign ^ b.sign);
}

/* The nearest integer, halves to even; beyond 2^23 that number. */
static int32_t nearest(number x)
{
    const int32_t shift = -x.exponent;
    uint32_t whole;
    if (x.mantissa == 0 || shift > 24)
        whole = 0;
    else
        whole = shift <= 0 ? HIDDEN : halved(x.mantissa, shift, 0);
    return x.sign != 0 ? -(int32_t)whole : (int32_t)whole;
}

/* Where |x| < 2^24 and the product is below 2^12 and not close to a half, that it is rounded twice makes no difference: the
 * first rounding moves it by 2^-12 at most. Its 32 bits from bit 16 on say that. */
int32_t ec_requantize(int32_t x, uint32_t multiplier)
{
    const uint32_t size = x < 0 ? 0U - (uint32_t)x : (uint32_t)x;
    const int32_t shift = 134 - (int32_t)(multiplier >> 23); /* of a negative multiplier it is below 0 */
    if (size >> 24 == 0 && shift > 0 && shift < 32) {
        const uint32_t low = multiplier & 0xFFFF, high = ((multiplier & (HIDDEN - 1)) | HIDDEN) >> 16;
        const uint32_t size_low = size & 0xFFFF, size_high = size >> 16;
        const uint32_t bits = (size_high * high << 16) + size_low * high + size_high * low + (size_low * low >> 16);
        const uint32_t whole = bits >> shift, rest = bits - (whole << shift), half = 1U << (shift - 1);
        const uint32_t away = rest > half ? rest - half : half - rest;
        if (whole < 4096 && away > (half >> 10) + 2) {
            const int32_t result = (int32_t)(whole + (rest > half));
            return x < 0 ? -result : result;
        }
    }
    return nearest(product(of_int(x), of_bits(multiplier)));
}

uint32_t ec_f32_scaled(int32_t x, uint32_t multiplier)
{
    return to_bits(product(of_int(x), of_bits(multiplier)));
}

uint32_t ec_f32_sum(uint32_t a_bits, uint32_t b_bits)
{
    number a = of_bits(a_bits), b = of_bits(b_bits);
    if (a.mantissa == 0 || (b.mantissa != 0 && a.exponent < b.exponent)) {
        const number other = a;
        a = b;
        b = other;
    }
    if (b.mantissa == 0)
        return to_bits(a);
    /* Six more bits than a mantissa has, the last of which says whether any follow. */
    const int32_t shift = a.exponent - b.exponent;
    const uint32_t large = a.mantissa << 6, small = b.mantissa << 6;
    const uint32_t moved = shift > 30 ? 1 : small >> shift | ((small & ((1U << shift) - 1)) != 0);
    const uint32_t sum = a.sign == b.sign ? large + moved : large >= moved ? large - moved : moved - large;
    return to_bits(rounded(0, sum, a.exponent - 6, large >= moved ? a.sign : b.sign));
}

int32_t ec_f32_nearest(uint32_t bits)
{
    return nearest(of_bits(bits));
}

/* Of a number that is not 0. */
static number ratio(number a, number b)
{
    uint32_t quotient = 0, rest = a.mantissa; /* of 26 bits, so that the last but one decides */
    for (int32_t i = 0; i < 27; i++) {
        quotient <<= 1;
        if (rest >= b.mantissa) {
            rest -= b.mantissa;
            quotient |= 1;
        }
        rest <<= 1;
    }
    return rounded(0, quotient << 1 | (rest != 0), a.exponent - b.exponent - 27, a.sign ^ b.sign);
}

uint32_t ec_f32_quotient(uint32_t bits, int32_t divisor)
{
    const number b = of_int(divisor);
    return b.mantissa == 0 ? 0x7F7FFFFFU : to_bits(ratio(of_bits(bits), b));
}

/* 2^30 times the quotient of the mantissas, `bits`, is too small by less than 2^8 as the reciprocal is; rounded to f32, the
 * quotient would be off by 2^7 at most. Where that may lead to another integer, it is divided. */
int32_t ec_f32_steps(uint32_t x, uint32_t scale, uint32_t reciprocal)
{
    const int32_t biased = (int32_t)(x >> 23 & 255), exponent = biased - (int32_t)(scale >> 23);
    const uint32_t fraction = x & (HIDDEN - 1), mantissa = fraction | HIDDEN;
    uint32_t steps = 0;
    if (biased == 255 && fraction != 0)
        return 0;
    if (biased == 255 || exponent > 17) {
        steps = 1U << 20;
    } else if (biased != 0 && exponent >= -1) {
        const uint32_t low = mantissa & 0xFFFF, high = mantissa >> 16;
        const uint32_t other_low = reciprocal & 0xFFFF, other_high = reciprocal >> 16;
        const uint32_t middle = high * other_low + low * other_high;
        const uint32_t bits = (high * other_high << 15) + (middle >> 1) + (low * other_low >> 17);
        const int32_t shift = 30 - exponent;
        const uint32_t whole = bits >> shift, rest = bits - (whole << shift), half = 1U << (shift - 1);
        const uint32_t away = rest > half ? rest - half : half - rest;
        steps = away > 512 ? whole + (rest > half) : (uint32_t)nearest(ratio(of_bits(x & 0x7FFFFFFF), of_bits(scale)));
    }
    return x >> 31 != 0 ? -(int32_t)steps : (int32_t)steps;
}
