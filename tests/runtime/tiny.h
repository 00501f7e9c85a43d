/* A model as the compiler writes it: scores = (x * 2 + bias) / sum(x * 2 + bias), in two steps. */
#ifndef TINY_H
#define TINY_H

#include "edgec/edgec.h"

#ifdef __cplusplus
extern "C" {
#endif

#define TINY_ARENA_BYTES 256
#define TINY_ARENA_ALIGN 64

extern const ec_desc tiny_desc;

#ifdef __cplusplus
}
#endif
#endif
