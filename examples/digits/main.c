/* Recognises held-out digits with the compiled model and counts how many are right.. */
#include <stdio.h>

#include "digits.h"
#include "samples.h"

/* All the memory that the model works in.  On a board this is the RAM to budget for. */
EC_ALIGNAS(DIGITS_ARENA_ALIGN) static uint8_t arena[DIGITS_ARENA_BYTES];

static int largest(const float *scores)
{
    int best = 0;
    for (int i = 1; i < N_DIGITS; i++)
        if (scores[i] > scores[best])
            best = i;
    return best;
}

int main(void)
{
    ec_model model;
    ec_status status = ec_open(&model, &digits_desc, arena, sizeof arena);
    if (status < 0) {
        fprintf(stderr, "digits: %s\n", ec_strerror(status));
        return 2;
    }

    int right = 0;
    for (int n = 0; n < N_SAMPLES; n++) {
        float *image = (float *)ec_input(&model, DIGITS_INPUT_IMAGE).data;
        for (int i = 0; i < N_PIXELS; i++)
            image[i] = (float)sample_pixels[n][i] / 16.0f; /* as in training */

        status = ec_run(&model);
        if (status < 0) {
            fprintf(stderr, "digits: %s\n", ec_strerror(status));
            return 2;
        }
        const float *scores = (const float *)ec_output(&model, DIGITS_OUTPUT_SCORES).data;
        int digit = largest(scores);
        int correct = digit == sample_labels[n];
        right += correct;
        printf("image %2d  read %d (%5.1f %%)  is %d%s\n", n, digit, 100.0 * (double)scores[digit], sample_labels[n],
               correct ? "" : "  <- wrong");
    }
    printf("%d of %d right, %u bytes of working memory, %u bytes of weights\n", right, N_SAMPLES, DIGITS_ARENA_BYTES,
           DIGITS_WEIGHTS_BYTES);
    return right * 10 >= N_SAMPLES * 9 ? 0 : 1;
}
