/* SPDX-License-Identifier: Apache-2.0 */
#include "semihost.h"

enum { SYS_OPEN = 0x01, SYS_CLOSE = 0x02, SYS_WRITE0 = 0x04, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };

static uint32_t call(uint32_t operation, const void *block)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static uint32_t address(const void *of)
{
    return (uint32_t)(uintptr_t)of;
}

uint32_t file_open(const char *path, int writing)
{
    const uint32_t rb = 1, wb = 5;
    uint32_t length = 0;
    while (path[length] != '\0')
        length++;
    const uint32_t block[] = {address(path), writing ? wb : rb, length};
    return call(SYS_OPEN, block) + 1; /* -1: failed */
}

/* Reading and writing answer how many bytes are left. */
int file_read(uint32_t file, void *to, size_t bytes)
{
    const uint32_t block[] = {file - 1, address(to), (uint32_t)bytes};
    return bytes == 0 || call(SYS_READ, block) == 0;
}

int file_write(uint32_t file, const void *from, size_t bytes)
{
    const uint32_t block[] = {file - 1, address(from), (uint32_t)bytes};
    return bytes == 0 || call(SYS_WRITE, block) == 0;
}

void file_close(uint32_t file)
{
    const uint32_t block[] = {file - 1};
    call(SYS_CLOSE, block);
}

void print(const char *text)
{
    call(SYS_WRITE0, text);
}

void print_hex(uint32_t number)
{
    char text[9];
    for (int i = 0; i < 8; i++)
        text[i] = "0123456789abcdef"[number >> (28 - 4 * i) & 15u];
    text[8] = '\0';
    print(text);
}

void stop(int status)
{
    const uint32_t application_exit = 0x20026;
    const uint32_t block[] = {application_exit, (uint32_t)status};
    call(SYS_EXIT_EXTENDED, block);
    for (;;) {
    }
}
