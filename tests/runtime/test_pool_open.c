/* Opening a pool: what is refused, and how large it becomes where the machine has less. */
#include <string.h>

#include "check.h"
#include "edgec/pool.h"
#include "machine.h"

static void bad_arguments_are_refused(void)
{
    ec_pool *pool = (ec_pool *)&check_failures;
    ec_model closed;
    memset(&closed, 0, sizeof closed);
    CHECK_EQ(ec_pool_open(NULL, 1), EC_ERR_ARG);
    CHECK_EQ(ec_pool_open(&pool, 257), EC_ERR_ARG);
    CHECK(pool == NULL);
    CHECK_EQ(ec_use_pool(NULL, NULL), EC_ERR_ARG);
    CHECK_EQ(ec_use_pool(&closed, NULL), EC_ERR_ARG);
    CHECK_EQ(ec_pool_workers(NULL), 1);
    ec_pool_close(NULL);
}

static void a_pool_is_no_larger_than_the_machine(void)
{
    ec_pool *pool;
    for (cores = 1; cores <= 3; cores += 2) {
        CHECK_EQ(ec_pool_open(&pool, 0), EC_OK);
        CHECK_EQ(ec_pool_workers(pool), cores);
        ec_pool_close(pool);
        CHECK_EQ(ec_pool_open(&pool, 8), EC_OK);
        CHECK_EQ(ec_pool_workers(pool), cores);
        ec_pool_close(pool);
    }
    cores = CORES;
}

static void a_system_without_resources_is_reported(void)
{
    ec_pool *pool;
    for (int limit = 0; limit < 4; limit++) {
        threads_left = limit;
        CHECK_EQ(ec_pool_open(&pool, 6), EC_ERR_THREAD);
        CHECK(pool == NULL);
    }
    threads_left = -1;
    memory_left = 0;
    CHECK_EQ(ec_pool_open(&pool, 2), EC_ERR_MEMORY);
    CHECK(pool == NULL);
    memory_left = -1;
}

int main(void)
{
    bad_arguments_are_refused();
    a_pool_is_no_larger_than_the_machine();
    a_system_without_resources_is_reported();
    return CHECK_RESULT();
}
