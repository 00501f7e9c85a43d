/* Recognises handwritten digits on a microcontroller: all memory is static, nothing is allocated. */
#include "digits.h"
#include "samples.h"

void print(const char *text); /* startup.c */

EC_ALIGNAS(DIGITS_ARENA_ALIGN) static uint8_t arena[DIGITS_ARENA_BYTES];

static void print_number(uint32_t number)
{
    char text[11];
    char *first = text + sizeof text - 1;
    *first = '\0';
    do
        *--first = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    print(first);
}

static int classify(ec_model *model, int sample)
{
    float *image = (float *)ec_input(model, DIGITS_INPUT_IMAGE).data; /* before every run: its memory is reused */
    for (int i = 0; i < N_PIXELS; i++)
        image[i] = (float)sample_pixels[sample][i] / 16.0f;
    const ec_status status = ec_run(model);
    if (status < 0)
        return status;
    const float *scores = (const float *)ec_output(model, DIGITS_OUTPUT_SCORES).data;
    int best = 0;
    for (int i = 1; i < N_DIGITS; i++)
        if (scores[i] > scores[best])
            best = i;
    return best;
}

int main(void)
{
    ec_model model;
    const ec_status status = ec_open(&model, &digits_desc, arena, sizeof arena);
    if (status < 0) {
        print(ec_strerror(status));
        return 1;
    }
    uint32_t right = 0;
    for (int i = 0; i < N_SAMPLES; i++) {
        const int digit = classify(&model, i);
        if (digit < 0)
            return 1;
        right += digit == sample_labels[i];
        print("image ");
        print_number((uint32_t)i);
        print(" is a ");
        print_number((uint32_t)digit);
        print(digit == sample_labels[i] ? "\n" : "  <- wrong\n");
    }
    print_number(right);
    print(" of ");
    print_number(N_SAMPLES);
    print(" right, ");
    print_number(DIGITS_ARENA_BYTES);
    print(" bytes of working memory, ");
    print_number(DIGITS_WEIGHTS_BYTES);
    print(" bytes of weights\n");
    return 0;
}
