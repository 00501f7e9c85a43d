/* f32 by integers gives the bits of the FPU, ties and cancellation among what is tried. */
#include "check.h"
#include "edgec/requantize.h"

#include <math.h>
#include <string.h>

static uint32_t seed = 1;

static uint32_t random_bits(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    return seed ^= seed << 5;
}

static uint32_t below(uint32_t limit)
{
    return (random_bits() >> 8) % limit;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Of any magnitude, and then perhaps with few bits: products are then ties. */
static int32_t some_int(void)
{
    const int32_t x = (int32_t)((random_bits() >> 1) >> below(31));
    return below(2) ? x : -x;
}

static float some_multiplier(void)
{
    const uint32_t bits = (random_bits() & 0x7FFFFF) | (90 + below(50)) << 23, kind = below(8);
    return float_of(kind == 0 ? bits & 0xFF800000U : kind < 3 ? bits & 0xFFFF0000U : bits);
}

static int32_t nearest(float x)
{
    const float most = 8388608.0F;
    return (int32_t)nearbyintf(x > most ? most : x < -most ? -most : x);
}

static float other_than(float x)
{
    switch (below(4)) {
    case 0: return -x;
    case 1: return float_of((bits_of(x) ^ 0x80000000U) + below(8));
    case 2: return float_of(bits_of(x) ^ 1);
    default: return (float)some_int() * some_multiplier();
    }
}

int main(void)
{
    for (int i = 0; i < 400000 && check_failures < 5; i++) {
        const int32_t x = some_int();
        const float m = some_multiplier();
        const volatile float product = (float)x * m;
        CHECK_EQ(ec_requantize(x, bits_of(m)), nearest(product));
        CHECK_EQ(ec_f32_scaled(x, bits_of(m)), bits_of(product + 0.0F));
        CHECK_EQ(ec_f32_nearest(bits_of(product)), nearest(product));
        const float other = other_than(product);
        const volatile float sum = product + other;
        if (sum == 0.0F || fabsf(sum) >= 1.17549435e-38F)
            CHECK_EQ(ec_f32_sum(bits_of(product), bits_of(other)), bits_of(sum + 0.0F));
        const float scale = fabsf(some_multiplier()), steps[] = {scale * ((float)some_int() + 0.5F), product, sum};
        const uint32_t reciprocal = (uint32_t)((1ULL << 47) / ((bits_of(scale) & 0x7FFFFF) | 0x800000));
        for (int k = 0; k < 3; k++) {
            const float near = float_of(bits_of(steps[k]) + below(5) - 2);
            const volatile float ratio = near / scale;
            const int32_t found = ec_f32_steps(bits_of(near), bits_of(scale), reciprocal);
            if (fabsf(ratio) < 131072.0F)
                CHECK_EQ(found, nearest(ratio));
            else
                CHECK(ratio != ratio ? found == 0 : ratio < 0 ? found <= -131072 : found >= 131072);
        }
        const int32_t divisor = (x < 0 ? -(x + 1) : x) | 1;
        const volatile float quotient = m / (float)divisor;
        CHECK_EQ(ec_f32_quotient(bits_of(m), divisor), bits_of(quotient));
    }
    CHECK_EQ(ec_requantize(1, bits_of(0.5F)), 0);
    CHECK_EQ(ec_requantize(3, bits_of(0.5F)), 2);
    CHECK_EQ(ec_requantize(-2147483647 - 1, bits_of(1.0F)), -8388608);
    CHECK_EQ(ec_f32_sum(bits_of(0.0F), bits_of(0.0F)), 0);
    return CHECK_RESULT();
}
