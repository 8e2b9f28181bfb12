/* The allocator that curl gets: ours, and for small blocks a reserve behind it.
 *
 * libcurl 7.88 divides by zero when it cannot have the 416 bytes of the table of transfers of a socket (multi.c, singlesocket(): the
 * table is destroyed and used again). The reserve is not touched, and so costs no memory, until an allocation fails. Any thread:
 * names are looked up in threads of curl. */
#include <stdatomic.h>
#include <stdint.h>

#include "agent/base/mem.h"
#include "uploader/http/curl.h"

#define BLOCKS      128
#define BLOCK_BYTES 512

static _Alignas(16) char blocks[BLOCKS][BLOCK_BYTES];
static atomic_flag taken[BLOCKS];

static bool is_reserve(const void *p) {
    return (uintptr_t)p >= (uintptr_t)blocks && (uintptr_t)p < (uintptr_t)blocks + sizeof(blocks);
}

static void *take_block(size_t size) {
    for (size_t i = 0; size <= BLOCK_BYTES && i < BLOCKS; i++)
        if (!atomic_flag_test_and_set(&taken[i]))
            return blocks[i];
    return NULL;
}

static void *reserve_alloc(size_t size) {
    void *p = mem_alloc(size);

    return p != NULL ? p : take_block(size);
}

static void *reserve_calloc(size_t n, size_t size) {
    void *p = mem_calloc(n, size);

    if (p == NULL && (size == 0 || n <= BLOCK_BYTES / size) && (p = take_block(n * size)) != NULL)
        memset(p, 0, n * size);
    return p;
}

static void reserve_free(void *p) {
    if (is_reserve(p))
        atomic_flag_clear(&taken[((uintptr_t)p - (uintptr_t)blocks) / BLOCK_BYTES]);
    else
        mem_free(p);
}

static void *reserve_realloc(void *p, size_t size) {
    void *more;

    if (p != NULL && !is_reserve(p))
        return mem_realloc(p, size);
    if (p != NULL && size <= BLOCK_BYTES)
        return p;
    more = reserve_alloc(size);
    if (more != NULL && p != NULL) {
        memcpy(more, p, BLOCK_BYTES);
        reserve_free(p);
    }
    return more;
}

static char *reserve_strdup(const char *s) {
    size_t n = strlen(s) + 1;
    char *p = reserve_alloc(n);

    if (p != NULL)
        memcpy(p, s, n);
    return p;
}

CURLcode http_curl_init(long flags) {
    return curl_global_init_mem(flags, reserve_alloc, reserve_free, reserve_realloc, reserve_strdup,
                                reserve_calloc);
}
