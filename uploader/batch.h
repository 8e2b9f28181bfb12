/* batch.h - a batch on its way out: gzip of NDJSON, one header line, then a record a line.
 *
 *     {"pillion":1,"app":…,"instance":…,"boot":…,"seq":…,"records":n}\n
 *     {"kind":"process",…}\n
 *
 * A batch is exactly one gzip member (RFC 1952), so that several of them behind each other are a
 * gzip file again, and so that readers that know one member only take it as well. The number of
 * records stands in its first line and is known last: records are deflated as they come, and the
 * header is put in front at the end as a stored block, for which room was left.
 *
 * The member carries its own length: extra field "PL", 4 bytes, the bytes of the whole member,
 * little endian. It lets a directory of them be walked without inflating anything
 * (uploader/sinks/dir.c).
 *
 * Deflate: level 1 with matches looked for a little further (nice length 64), window 16 KiB, 133
 * KiB of state, held for ever. Measured with 4 KB records of one application: 19 us and 560 bytes a
 * record; a window of 8 KiB costs half as much again in time, one of 32 KiB saves a fifth and costs
 * 64 KiB.
 *
 * A writer belongs to one thread. A finished batch is never changed; batch_ref() and batch_unref()
 * are for the loop thread. */
#ifndef PILLION_UPLOADER_BATCH_H
#define PILLION_UPLOADER_BATCH_H

#include <stddef.h>
#include <stdint.h>

#define BATCH_HEAD_BYTES 20 /* of the gzip header, extra field included */

struct batch {
    uint64_t seq;
    uint32_t records;
    size_t raw_bytes; /* uncompressed, header line included */
    const char *data; /* the gzip member */
    size_t len;
    unsigned refs;
    char *mem; /* the block that holds `data` */
};

struct batch *batch_ref(struct batch *b);
void batch_unref(struct batch *b); /* frees with the last; NULL is fine */

/* The length of the member whose first n bytes are at p. -EAGAIN: a batch begins like this, but
 * more of it is needed (at most BATCH_HEAD_BYTES); -EBADMSG: not one of ours. */
int64_t batch_member_bytes(const void *p, size_t n);

struct batch_writer;

/* -E2BIG when the names do not fit a header line (60,000 bytes in JSON). */
int batch_writer_new(struct batch_writer **ret, const char *app, const char *instance,
                     const char *boot);
/* One whose header lines begin with this text, up to `"seq":`: to write a batch that is known by its lines once more. The
 * same calls make the same bytes. */
int batch_writer_new_like(struct batch_writer **ret, const char *prefix, size_t len);
void batch_writer_free(struct batch_writer *w);

/* Begins batch `seq`. Fine again when the batch that is open has no record yet. */
int batch_writer_begin(struct batch_writer *w, uint64_t seq);
/* One record, without newline, at most LIMIT_RECORD_BYTES (-EMSGSIZE). -ENOMEM: nothing was added,
 * the batch stays good. */
int batch_writer_add(struct batch_writer *w, const char *json, size_t len);
uint32_t batch_writer_records(const struct batch_writer *w);
size_t batch_writer_raw_bytes(const struct batch_writer *w); /* of records, newlines included */
/* Ends the open batch; allocates nothing. The caller has the only reference. -EIO: zlib refused,
 * the batch is gone. */
int batch_writer_finish(struct batch_writer *w, struct batch **ret);

#endif
