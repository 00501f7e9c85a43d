/* Layers of quantized networks in plain C, as edgec defines their integers: what a compiler makes of loops alone.
 * Sizes are constants wherever these functions are called. Tensors lie as NHWC, filters as OHWI, depthwise ones as HWC. */
#ifndef EDGEC_BENCHMARKS_CORTEX_PLAIN_H
#define EDGEC_BENCHMARKS_CORTEX_PLAIN_H

#include <stdint.h>
#include <string.h>

#define LAYER static inline __attribute__((always_inline)) void

static inline int8_t rescaled(int32_t sum, float multiplier, int32_t zero)
{
    const float nearest = (float)sum * multiplier + 12582912.0f; /* the integer is in its lowest bits, halves to even */
    const int32_t rounder = 0x4B400000;
    int32_t bits;
    memcpy(&bits, &nearest, sizeof bits);
    const int32_t low = rounder - 128 - zero, high = rounder + 127 - zero;
    bits = bits < low ? low : bits > high ? high : bits;
    return (int8_t)(bits - rounder + zero);
}

LAYER convolution(const int8_t *x, const int8_t *w, const int32_t *bias, const float *multiplier, int8_t *y, int height,
                  int width, int channels, int rows, int columns, int outputs, int kernel_h, int kernel_w, int stride_h,
                  int stride_w, int pad_h, int pad_w, int32_t zero)
{
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < columns; column++)
            for (int o = 0; o < outputs; o++) {
                int32_t sum = bias[o];
                for (int kh = 0; kh < kernel_h; kh++) {
                    const int h = row * stride_h - pad_h + kh;
                    if (h < 0 || h >= height)
                        continue;
                    for (int kw = 0; kw < kernel_w; kw++) {
                        const int v = column * stride_w - pad_w + kw;
                        if (v < 0 || v >= width)
                            continue;
                        const int8_t *at = x + (h * width + v) * channels;
                        const int8_t *filter = w + ((o * kernel_h + kh) * kernel_w + kw) * channels;
                        for (int c = 0; c < channels; c++)
                            sum += (at[c] - zero) * filter[c];
                    }
                }
                y[(row * columns + column) * outputs + o] = rescaled(sum, multiplier[o], zero);
            }
}

LAYER depthwise(const int8_t *x, const int8_t *w, const int32_t *bias, const float *multiplier, int8_t *y, int height,
                int width, int channels, int rows, int columns, int kernel_h, int kernel_w, int stride_h, int stride_w,
                int pad_h, int pad_w, int32_t zero)
{
    for (int row = 0; row < rows; row++)
        for (int column = 0; column < columns; column++)
            for (int c = 0; c < channels; c++) {
                int32_t sum = bias[c];
                for (int kh = 0; kh < kernel_h; kh++) {
                    const int h = row * stride_h - pad_h + kh;
                    if (h < 0 || h >= height)
                        continue;
                    for (int kw = 0; kw < kernel_w; kw++) {
                        const int v = column * stride_w - pad_w + kw;
                        if (v >= 0 && v < width)
                            sum += (x[(h * width + v) * channels + c] - zero) * w[(kh * kernel_w + kw) * channels + c];
                    }
                }
                y[(row * columns + column) * channels + c] = rescaled(sum, multiplier[c], zero);
            }
}

#endif
