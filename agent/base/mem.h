/* mem.h - the only way to the heap, so that a test can fail the nth allocation.
 *
 * Every function returns NULL when there is no memory; nothing here ends the process. Blocks are freed with mem_free() only.
 * libuv, jansson and zlib are given these functions where the process starts (agent/agent.c). Thread-safe. */
#ifndef PILLION_MEM_H
#define PILLION_MEM_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/banned.h"

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))

void *mem_alloc(size_t size);
void *mem_calloc(size_t n, size_t size);
/* On failure the old block stays as it was. */
void *mem_realloc(void *ptr, size_t size);
char *mem_strdup(const char *s);
char *mem_strndup(const char *s, size_t n);
void *mem_memdup(const void *p, size_t n);
void mem_free(void *ptr); /* NULL is fine */

/* For tests: the nth allocation from now (1 = the next) and all after it fail; 0 = never. */
void mem_fail_from(long n);
/* For tests: only the nth allocation from now fails; 0 = never. */
void mem_fail_only(long n);
/* Blocks that are allocated and not freed. */
long mem_live(void);

#endif
