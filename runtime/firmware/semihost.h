/* SPDX-License-Identifier: Apache-2.0 */
/* Semihosting: files and the console of the machine that emulates or debugs a Cortex-M. */
#ifndef EDGEC_FIRMWARE_SEMIHOST_H
#define EDGEC_FIRMWARE_SEMIHOST_H

#include <stddef.h>
#include <stdint.h>

/* Opens a file for reading or writing bytes; 0 where that cannot be, else a number that is not 0. */
uint32_t file_open(const char *path, int writing);

/* 0 where fewer bytes were read, or written. */
int file_read(uint32_t file, void *to, size_t bytes);
int file_write(uint32_t file, const void *from, size_t bytes);
void file_close(uint32_t file);

void print(const char *text);
void print_hex(uint32_t number);
_Noreturn void stop(int status);

#endif
