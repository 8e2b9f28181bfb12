/* record.h - one record of a spool segment: a finished batch with what has to be known of it without
 * unpacking it. SPOOL.md draws the bytes. Nothing here does I/O; for any thread.
 *
 * A record is head, index, batch. The head is 72 bytes for ever and has a checksum of its own, so
 * that the next record is found behind one whose body is damaged. `version` is the format that wrote
 * the record, `needs` the oldest one that a reader must know to read it: a later version that only
 * adds entries to the index keeps `needs`, and an older program goes on reading. `form` is how the batch is
 * held: as it goes to the sinks, or packed (pack.h). */
#ifndef PILLION_SPOOL_RECORD_H
#define PILLION_SPOOL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"

#define SPOOL_VERSION                                                                              \
    2 /* what we write; `needs` is 1 for SPOOL_GZIP, so that version 1 goes on reading it */
#define SPOOL_HEAD_BYTES 72
#define SPOOL_BOOT_BYTES 16
#define SPOOL_ID_BYTES   64 /* a worker's id and its NUL */
/* Of index and of batch; more is taken for damage. A batch is 16 MiB of records at most, and one. */
#define SPOOL_INDEX_MAX (1024u * 1024u)
#define SPOOL_DATA_MAX  (40u * 1024u * 1024u)

enum spool_form { SPOOL_GZIP, SPOOL_PACKED };

struct spool_head {
    uint8_t version, needs;
    uint8_t form; /* enum spool_form */
    uint32_t index_bytes, data_bytes;
    uint64_t number; /* of the record: rises over all segments, from 1 */
    uint64_t seq;    /* of the batch, in its boot */
    unsigned char boot[SPOOL_BOOT_BYTES];
    int64_t time_ms; /* wall clock when the batch was closed */
    uint32_t records, raw_bytes;
    uint32_t body_crc;
};

/* What the index tells of one worker. */
struct spool_worker {
    char id[SPOOL_ID_BYTES];
    uint64_t last;  /* highest sample number in this record or, with count 0, in an earlier one */
    uint64_t count; /* samples in this record */
};

void spool_head_put(const struct spool_head *h, unsigned char out[SPOOL_HEAD_BYTES]);
/* -EBADMSG: not a head. -EPROTONOSUPPORT: one of a newer format that we cannot read; *ret is filled
 * as far as the fixed part goes. */
int spool_head_get(struct spool_head *ret, const unsigned char in[SPOOL_HEAD_BYTES]);
/* Could the n bytes (fewer than a head) be the beginning of one? */
bool spool_head_begins(const unsigned char *p, size_t n);
/* The first place in p[0..n) where a head may begin; n when there is none. */
size_t spool_head_find(const unsigned char *p, size_t n);

static inline uint64_t spool_head_total(const struct spool_head *h) {
    return (uint64_t)SPOOL_HEAD_BYTES + h->index_bytes + h->data_bytes;
}

uint32_t spool_body_crc(const void *index, size_t index_len, const void *data, size_t data_len);

/* 32 hexadecimal digits and back; -EINVAL for anything else. */
int spool_boot_parse(unsigned char out[SPOOL_BOOT_BYTES], const char *hex);
void spool_boot_format(char out[2 * SPOOL_BOOT_BYTES + 1], const unsigned char *boot);

void spool_index_add(struct buf *index, const char *id, uint64_t last, uint64_t count);
/* Calls back for each worker; entries of kinds that we do not know are passed over. -EBADMSG: cut. */
int spool_index_walk(const void *index, size_t len, uint8_t needs,
                     void (*worker)(void *arg, const struct spool_worker *w), void *arg);

#endif
