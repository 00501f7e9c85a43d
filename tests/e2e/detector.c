/* A detector in a program: how many boxes there are is known after each run.  argv: a file of images. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "detector.h"

EC_ALIGNAS(DETECTOR_ARENA_ALIGN) static uint8_t arena[DETECTOR_ARENA_BYTES];

static void print_boxes(const ec_model *model)
{
    const float *boxes = (const float *)ec_output(model, DETECTOR_OUTPUT_BOXES).data;
    const int64_t *labels = (const int64_t *)ec_output(model, DETECTOR_OUTPUT_LABELS).data;
    const int64_t count = ec_output_count(model, DETECTOR_OUTPUT_BOXES);

    printf("%" PRId64 "\n", count);
    for (int64_t i = 0; i < count; i++, boxes += 4)
        printf("%" PRId64 " %a %a %a %a\n", labels[i], (double)boxes[0], (double)boxes[1], (double)boxes[2],
               (double)boxes[3]);
}

static void print_columns(const ec_model *model)
{
    /* The second axis is the one that varies: each row is read from its own start. */
    const int64_t *places = (const int64_t *)ec_output(model, DETECTOR_OUTPUT_PLACES).data;
    const int64_t count = ec_output_count(model, DETECTOR_OUTPUT_PLACES);
    const int64_t most = DETECTOR_OUTPUT_PLACES_COUNT_MOST;

    printf("%" PRId64 "\n", count);
    for (int64_t i = 0; i < count; i++)
        printf("%" PRId64 " %" PRId64 "\n", places[i], places[most + i]);
}

int main(int argc, char **argv)
{
    ec_model model;
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (file == NULL || ec_open(&model, &detector_desc, arena, sizeof arena) < 0)
        return 1;
    while (fread(ec_input(&model, 0).data, DETECTOR_INPUT_IMAGE_BYTES, 1, file) == 1) {
        if (ec_run(&model) < 0)
            return 1;
        print_boxes(&model);
        print_columns(&model);
    }
    return fclose(file) != 0;
}
