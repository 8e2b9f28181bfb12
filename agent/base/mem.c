#include "agent/base/mem.h"

#include <stdatomic.h>
#include <stdint.h>

static atomic_long live;
static atomic_long fail_countdown; /* 0 = off, else the allocation with this number fails */
static atomic_bool fail_stays;

static bool must_fail(void) {
    if (atomic_load_explicit(&fail_countdown, memory_order_relaxed) == 0)
        return false;
    if (atomic_load(&fail_countdown) == 1) {
        if (!atomic_load(&fail_stays))
            atomic_store(&fail_countdown, 0);
        return true;
    }
    atomic_fetch_sub(&fail_countdown, 1);
    return false;
}

static void *counted(void *p) {
    if (p != NULL)
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return p;
}

void *mem_alloc(size_t size) {
    return must_fail() ? NULL : counted(malloc(size > 0 ? size : 1));
}

void *mem_calloc(size_t n, size_t size) {
    if (n == 0 || size == 0)
        n = size = 1;
    if (n > SIZE_MAX / size) /* the sanitizers' calloc() ends the process */
        return NULL;
    return must_fail() ? NULL : counted(calloc(n, size));
}

void *mem_realloc(void *ptr, size_t size) {
    void *p;

    if (ptr == NULL)
        return mem_alloc(size);
    if (size == 0) { /* libuv and jansson expect free() here */
        mem_free(ptr);
        return NULL;
    }
    if (must_fail())
        return NULL;
    p = realloc(ptr, size);
    return p;
}

void *mem_memdup(const void *src, size_t n) {
    void *p = mem_alloc(n);

    if (p != NULL && n > 0)
        memcpy(p, src, n);
    return p;
}

char *mem_strndup(const char *s, size_t n) {
    size_t len = strnlen(s, n);
    char *p = mem_alloc(len + 1);

    if (p == NULL)
        return NULL;
    memcpy(p, s, len);
    p[len] = '\0';
    return p;
}

char *mem_strdup(const char *s) {
    return mem_strndup(s, SIZE_MAX);
}

void mem_free(void *ptr) {
    if (ptr == NULL)
        return;
    atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    free(ptr);
}

void mem_fail_from(long n) {
    atomic_store(&fail_stays, true);
    atomic_store(&fail_countdown, n);
}

void mem_fail_only(long n) {
    atomic_store(&fail_stays, false);
    atomic_store(&fail_countdown, n);
}

long mem_live(void) {
    return atomic_load(&live);
}
