/* The smallest test harness: CHECK prints what failed and where; the program's exit status counts the failures. */
#ifndef EDGEC_TESTS_CHECK_H
#define EDGEC_TESTS_CHECK_H

#include <stdio.h>

static int check_failures;

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            check_failures++;                                                   \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
        }                                                                       \
    } while (0)

#define CHECK_EQ(actual, expected)                                                                              \
    do {                                                                                                        \
        const long long actual_ = (long long)(actual), expected_ = (long long)(expected);                       \
        if (actual_ != expected_) {                                                                             \
            check_failures++;                                                                                   \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #actual, actual_, expected_);  \
        }                                                                                                       \
    } while (0)

#define CHECK_RESULT() (check_failures == 0 ? 0 : 1)

#endif
