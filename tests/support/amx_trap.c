/* SPDX-License-Identifier: Apache-2.0 */
/* AMX's instructions for 8-bit integers on a CPU without AMX: each traps as an undefined instruction, and is carried out
 * by the handler. Encodings and meaning: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2.
 *
 * What the CPU would refuse (a tile that is not configured, operands whose shapes do not fit) stays a SIGILL. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <ucontext.h>

enum { TILES = 8, ROWS = 16, ROW_BYTES = 64, PALETTE = 0, COLUMNS_AT = 16, ROWS_AT = 48 };
enum { NONE, P66, PF3, PF2 }; /* the prefix that VEX implies */

static __thread uint8_t tiles[TILES][ROWS][ROW_BYTES];
static __thread uint8_t config[ROW_BYTES];

static const int registers[16] = {
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

static int rows(unsigned tile)
{
    return config[ROWS_AT + tile];
}

static int row_bytes(unsigned tile)
{
    uint16_t bytes;
    memcpy(&bytes, config + COLUMNS_AT + 2 * tile, 2);
    return bytes;
}

/* Whether tiles are configured, each of them within what there is. */
static int configure(const uint8_t *from)
{
    memcpy(config, from, sizeof config);
    memset(tiles, 0, sizeof tiles);
    for (unsigned t = 0; t < TILES; t++)
        if (rows(t) > ROWS || row_bytes(t) > ROW_BYTES || (rows(t) == 0) != (row_bytes(t) == 0))
            return 0;
    return config[PALETTE] == 1;
}

static int there(unsigned tile)
{
    return tile < TILES && config[PALETTE] == 1 && rows(tile) > 0;
}

static void load(unsigned tile, const uint8_t *from, int64_t stride)
{
    memset(tiles[tile], 0, sizeof tiles[tile]);
    for (int r = 0; r < rows(tile); r++)
        memcpy(tiles[tile][r], from + r * stride, (size_t)row_bytes(tile));
}

static void store(unsigned tile, uint8_t *to, int64_t stride)
{
    for (int r = 0; r < rows(tile); r++)
        memcpy(to + r * stride, tiles[tile][r], (size_t)row_bytes(tile));
}

static int32_t element(uint8_t byte, int is_signed)
{
    return is_signed ? (int8_t)byte : byte;
}

/* sums += left x right, four neighbours of a row of `left` times four of a column of `right`; whether their shapes fit. */
static int multiply(unsigned sums, unsigned left, unsigned right, int left_signed, int right_signed)
{
    if (!there(sums) || !there(left) || !there(right) || sums == left || sums == right || left == right)
        return 0;
    if (rows(sums) != rows(left) || row_bytes(sums) != row_bytes(right) || row_bytes(left) != 4 * rows(right))
        return 0;
    for (int m = 0; m < rows(sums); m++)
        for (int n = 0; n < row_bytes(sums) / 4; n++) {
            uint32_t total;
            memcpy(&total, &tiles[sums][m][4 * n], 4);
            for (int k = 0; k < row_bytes(left); k++)
                total += (uint32_t)(element(tiles[left][m][k], left_signed) *
                                    element(tiles[right][k / 4][4 * n + k % 4], right_signed));
            memcpy(&tiles[sums][m][4 * n], &total, 4);
        }
    return 1;
}

/* An instruction behind its VEX prefix. */
typedef struct form {
    const uint8_t *next; /* ModRM */
    const greg_t *values;
    unsigned prefix, other; /* the operand that VEX names */
    int high_register, high_index, high_base;
} form;

/* The address that ModRM, SIB and a displacement name; `stride`: what the index adds, once more for each row. */
static uint8_t *address(form *f, int64_t *stride)
{
    const unsigned mode = f->next[0] >> 6, low = f->next[0] & 7u;
    uint64_t at;
    *stride = 0;
    f->next++;
    if (low == 4) {
        const unsigned scale = *f->next >> 6, index = (*f->next >> 3 & 7u) | (f->high_index ? 8u : 0u);
        const unsigned base = (*f->next & 7u) | (f->high_base ? 8u : 0u);
        f->next++;
        at = mode == 0 && (base & 7u) == 5 ? 0 : (uint64_t)f->values[registers[base]];
        if (index != 4)
            *stride = f->values[registers[index]] * ((int64_t)1 << scale);
        if (mode == 0 && (base & 7u) == 5) {
            int32_t far;
            memcpy(&far, f->next, 4);
            f->next += 4;
            return (uint8_t *)(uintptr_t)(int64_t)far;
        }
    } else if (mode == 0 && low == 5) {
        int32_t far;
        memcpy(&far, f->next, 4);
        f->next += 4;
        return (uint8_t *)(uintptr_t)f->next + far;
    } else {
        at = (uint64_t)f->values[registers[low | (f->high_base ? 8u : 0u)]];
    }
    if (mode == 1)
        at += (uint64_t)(int64_t)(int8_t)*f->next++;
    if (mode == 2) {
        int32_t far;
        memcpy(&far, f->next, 4);
        f->next += 4;
        at += (uint64_t)(int64_t)far;
    }
    return (uint8_t *)(uintptr_t)at;
}

/* Carry out one instruction; whether it is one of AMX's. */
static int carry_out(form *f, unsigned opcode)
{
    const unsigned tile = f->next[0] >> 3 & 7u, low = f->next[0] & 7u;
    const int is_register = f->next[0] >> 6 == 3;
    int64_t stride;
    if (f->high_register)
        return 0;
    if (opcode == 0x49 && f->prefix == NONE && !is_register)
        return configure(address(f, &stride));
    if (opcode == 0x49 && f->prefix == NONE && f->next[0] == 0xC0) {
        f->next++;
        config[PALETTE] = 0;
        return 1;
    }
    if (opcode == 0x49 && f->prefix == PF2 && is_register && there(tile)) {
        f->next++;
        memset(tiles[tile], 0, sizeof tiles[tile]);
        return 1;
    }
    if (opcode == 0x4B && f->prefix != NONE && !is_register && low == 4 && there(tile)) {
        uint8_t *at = address(f, &stride);
        if (f->prefix == PF3)
            store(tile, at, stride);
        else
            load(tile, at, stride);
        return 1;
    }
    if (opcode == 0x5E && is_register) {
        f->next++;
        return multiply(tile, low, f->other, f->prefix == PF2 || f->prefix == PF3, f->prefix == PF2 || f->prefix == P66);
    }
    return 0;
}

static void trapped(int number, siginfo_t *info, void *context)
{
    greg_t *values = ((ucontext_t *)context)->uc_mcontext.gregs;
    const uint8_t *code = (const uint8_t *)(uintptr_t)values[REG_RIP];
    (void)info;
    if (code[0] == 0xC4 && (code[1] & 0x1Fu) == 2 && (code[2] & 0x84u) == 0) { /* VEX.128.0F38.W0 */
        form f = {code + 4, values, code[2] & 3u, ~(unsigned)code[2] >> 3 & 15u, !(code[1] >> 7), !(code[1] >> 6 & 1u),
                  !(code[1] >> 5 & 1u)};
        if (carry_out(&f, code[3])) {
            values[REG_RIP] = (greg_t)(uintptr_t)f.next;
            return;
        }
    }
    signal(number, SIG_DFL);
}

/* From now on this process has AMX; 0 where the handler was installed. */
int amx_trap(void)
{
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_NODEFER};
    action.sa_sigaction = trapped;
    return sigaction(SIGILL, &action, NULL);
}
