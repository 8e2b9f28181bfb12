/* source.h - bytes of a profile from a descriptor, plain or gzip (found by the first two bytes), through one window.
 *
 * The reader works in [data, data + len) and says with source_more() from where on it still needs them. 16 bytes behind the end may
 * be read (they are 0). Blocking; any thread. */
#ifndef PILLION_FLAMEGRAPH_SOURCE_H
#define PILLION_FLAMEGRAPH_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOURCE_WINDOW_BYTES 262144
#define SOURCE_MARGIN_BYTES 16

struct source;

/* The descriptor stays the caller's. `progress` is told of the bytes that were read from it; may be NULL. */
int source_new(struct source **ret, int fd, void (*progress)(void *arg, uint64_t bytes), void *arg);
void source_free(struct source *s);

/* Moves what is left from `keep` on (an offset into the window) to the window's begin and adds behind it. 1: there is more; 0: the
 * end; -ENOBUFS the window is full; -EBADMSG the gzip data are damaged; -EPIPE they are cut off; errno of read(2). */
int source_more(struct source *s, size_t keep);

const unsigned char *source_data(const struct source *s);
size_t source_len(const struct source *s);
/* Of data[0], in the unpacked profile. */
uint64_t source_offset(const struct source *s);
bool source_is_gzip(const struct source *s);

#endif
