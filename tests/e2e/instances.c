/* Runs two models at once, each in several instances, one thread per instance; every instance checks its answers.
 *
 *     instances FIRST.data SECOND.data                            models linked to it: -DFIRST=a_desc -DSECOND=b_desc
 *     instances FIRST.data SECOND.data libfirst.so libsecond.so   models that are opened at run time
 *
 * A data file holds, for each instance, the bytes of all inputs and those of all outputs. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgec/edgec.h"
#include "edgec/loader.h"

enum { INSTANCES = 3, RUNS = 10 };

extern const ec_desc FIRST, SECOND;

typedef struct instance {
    const ec_desc *desc;
    uint8_t *inputs, *outputs;
    const char *fault; /* NULL: all answers are right */
    pthread_t thread;
} instance;

static size_t total(const ec_io *ios, uint32_t count)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++)
        bytes += ios[i].bytes;
    return bytes;
}

static const char *run(const instance *self, ec_model *model)
{
    const uint8_t *in = self->inputs, *out = self->outputs;
    for (uint32_t i = 0; i < self->desc->n_inputs; i++) {
        ec_tensor tensor = ec_input(model, i);
        memcpy(tensor.data, in, tensor.io->bytes);
        in += tensor.io->bytes;
    }
    ec_status status = ec_run(model);
    if (status < 0)
        return ec_strerror(status);
    for (uint32_t i = 0; i < self->desc->n_outputs; i++) {
        ec_tensor tensor = ec_output(model, i);
        if (memcmp(tensor.data, out, tensor.io->bytes) != 0)
            return "wrong answer";
        out += tensor.io->bytes;
    }
    return NULL;
}

static void *work(void *argument)
{
    instance *self = (instance *)argument;
    size_t align = self->desc->arena_align, bytes = self->desc->arena_bytes;
    uint8_t *arena = (uint8_t *)aligned_alloc(align, (bytes + align - 1) / align * align);
    ec_model model;
    ec_status status = arena ? ec_open(&model, self->desc, arena, bytes) : EC_ERR_MEMORY;
    self->fault = status < 0 ? ec_strerror(status) : NULL;
    for (int i = 0; i < RUNS && !self->fault; i++)
        self->fault = run(self, &model);
    free(arena);
    return NULL;
}

static int read_data(const char *path, const ec_desc *desc, instance *instances)
{
    size_t in = total(desc->inputs, desc->n_inputs), out = total(desc->outputs, desc->n_outputs);
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    size_t missing = 0;
    for (int i = 0; i < INSTANCES; i++) {
        instances[i].desc = desc;
        instances[i].inputs = (uint8_t *)malloc(in);
        instances[i].outputs = (uint8_t *)malloc(out);
        missing += in - fread(instances[i].inputs, 1, in, file);
        missing += out - fread(instances[i].outputs, 1, out, file);
    }
    fclose(file);
    return missing == 0;
}

int main(int argc, char **argv)
{
    instance instances[2 * INSTANCES];
    ec_bundle bundles[2] = {{NULL, NULL}, {NULL, NULL}};
    const ec_desc *descs[2] = {&FIRST, &SECOND};
    int wrong = 0;
    for (int i = 0; i < 2; i++) {
        if (argc == 5) {
            if (ec_load(argv[3 + i], &bundles[i]) < 0)
                return 2;
            descs[i] = bundles[i].desc;
        }
        if (argc < 3 || !read_data(argv[1 + i], descs[i], instances + i * INSTANCES))
            return 3;
    }
    for (int i = 0; i < 2 * INSTANCES; i++)
        pthread_create(&instances[i].thread, NULL, work, &instances[i]);
    for (int i = 0; i < 2 * INSTANCES; i++) {
        pthread_join(instances[i].thread, NULL);
        if (instances[i].fault) {
            fprintf(stderr, "%s, instance %d: %s\n", instances[i].desc->name, i % INSTANCES, instances[i].fault);
            wrong++;
        }
        free(instances[i].inputs);
        free(instances[i].outputs);
    }
    ec_unload(&bundles[0]);
    ec_unload(&bundles[1]);
    return wrong != 0;
}
