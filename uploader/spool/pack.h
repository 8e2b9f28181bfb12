/* pack.h - a batch in a sixth of the bytes, for a spool with a backlog: what a record of form 1 holds (SPOOL.md). The
 * lines come back byte for byte; a checksum says so. Memory only; any thread.
 *
 * What is needed meanwhile grows with the texts and with workers times keys, and is freed at the end. */
#ifndef PILLION_SPOOL_PACK_H
#define PILLION_SPOOL_PACK_H

#include "agent/base/buf.h"
#include "uploader/batch.h"

/* Packs a finished batch behind what is in `out`. -ENOMEM, -EBADMSG (it is no batch), or out->err. */
int pack_batch(struct buf *out, const struct batch *b);
/* Does it come back as this batch, to the byte? */
bool pack_holds(const void *packed, size_t len, const struct batch *b);

struct unpack;

/* The packed bytes must stay. `raw_bytes` is what the head of the record says. -EBADMSG, -ENOMEM. */
int unpack_open(struct unpack **ret, const void *packed, size_t len, uint32_t raw_bytes);
/* 1 with a line, newline included, good until the next call; 0 after the last; -EBADMSG, -ENOMEM. */
int unpack_next(struct unpack *u, const char **ret_line, size_t *ret_len);
void unpack_close(struct unpack *u); /* NULL is fine */
/* All of it, as the batch that it was, to the byte (with another version of zlib at least to the line). The caller has the
 * only reference. */
int unpack_batch(struct batch **ret, const void *packed, size_t len, uint32_t raw_bytes,
                 uint64_t seq, uint32_t records);

#endif
