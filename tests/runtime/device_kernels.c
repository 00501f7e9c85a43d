/* Kernels of test_cuda.c as the emulated driver calls them.  One block does one element. */
#include <stdint.h>

typedef void emulated(unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block, unsigned shared, void **params);
emulated scale_emulated, normalize_emulated, twice_emulated, tally_emulated;

/* They wait for the kernel before them; `twice` does not. */
extern const char scale_waits, normalize_waits, tally_waits;
const char scale_waits = 1, normalize_waits = 1, tally_waits = 1;

#define POINTER(type, name, index) type *name = *(type **)params[index]

/* y[i] = x[i] * 2 + bias[i] */
void scale_emulated(unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block, unsigned shared, void **params)
{
    POINTER(const float, x, 0);
    POINTER(const float, bias, 1);
    POINTER(float, y, 2);
    (void)grid_y, (void)grid_z, (void)block, (void)shared;
    for (unsigned i = 0; i < grid_x; i++)
        y[i] = x[i] * 2 + bias[i];
}

/* scores[i] = x[i] / sum(x); count = how many are positive */
void normalize_emulated(unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block, unsigned shared, void **params)
{
    POINTER(const float, x, 0);
    POINTER(float, scores, 1);
    POINTER(int64_t, count, 2);
    (void)grid_y, (void)grid_z, (void)block, (void)shared;
    float sum = 0;
    for (unsigned i = 0; i < grid_x; i++)
        sum += x[i];
    *count = 0;
    for (unsigned i = 0; i < grid_x; i++) {
        scores[i] = x[i] / sum;
        *count += scores[i] > 0;
    }
}

/* y *= 2; go = y < 100 */
void twice_emulated(unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block, unsigned shared, void **params)
{
    POINTER(double, y, 0);
    POINTER(uint8_t, go, 1);
    (void)grid_x, (void)grid_y, (void)grid_z, (void)block, (void)shared;
    *y *= 2;
    *go = *y < 100;
}

/* Counts launches in memory that was zero when the model opened. */
void tally_emulated(unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block, unsigned shared, void **params)
{
    POINTER(int32_t, counter, 0);
    POINTER(int32_t, shown, 1);
    (void)grid_x, (void)grid_y, (void)grid_z, (void)block, (void)shared;
    *shown = ++*counter;
}
