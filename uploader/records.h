/* records.h - a finished batch read back, line by line, for sinks that speak another language than NDJSON.
 *
 * Memory is bounded: zlib's 16 to 32 KiB and one line (LIMIT_RECORD_BYTES at most). Any thread, one at a time; the batch must stay
 * while it is read. */
#ifndef PILLION_UPLOADER_RECORDS_H
#define PILLION_UPLOADER_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uploader/batch.h"

#define RECORDS_BOOT_BYTES 65
#define RECORDS_KEY_BYTES  96 /* boot-seq */

/* The first line of a batch. */
struct records_head {
    char *line; /* as it stands there, terminated, without newline; owned, as the next two */
    char *app;
    char *instance;
    char boot[RECORDS_BOOT_BYTES];
    uint64_t seq;
    uint32_t records;
};

struct records;

/* Reads the first line. -EBADMSG: not a batch; -ENOMEM. */
int records_open(struct records **ret, const struct batch *b);
void records_close(struct records *r); /* NULL is fine */
const struct records_head *records_head(const struct records *r);
/* "boot-seq": the name of the batch for ever. */
void records_key(const struct records_head *head, char out[RECORDS_KEY_BYTES]);
/* 1 with a line (terminated in place of its newline, good until the next call), 0 at the end, -EBADMSG, -ENOMEM. */
int records_next(struct records *r, char **ret_line, size_t *ret_len);

/* One member of a record, as it stands in the text. */
struct member {
    const char *key; /* between its quotes, still escaped */
    size_t key_len;
    const char *value; /* JSON: a number, "string", true, false, null, {…}, […] */
    size_t value_len;
};

/* Walks the members of one JSON object: *p is NULL at first, then where it goes on. 1 with a member, 0 at the end, -EBADMSG when
 * the text is not an object. What stands in nested values is not looked at beyond brackets and strings. */
int member_next(const char *text, size_t len, const char **p, struct member *ret);
/* A number of JSON, whole; false when it is none. */
bool member_number(const struct member *m, double *ret);
/* The text of a string without its escapes, cut to fit; false when it is no string. */
bool member_text(const struct member *m, char *out, size_t size);
bool member_is(const struct member *m, const char *key);

#endif
