/* output.h - where captured bytes go: a compressed file with its digest, or memory; and whether they are whole.
 *
 * One thread at a time; blocks on the disk. Compression: zlib level 1, faster than V8 writes. */
#ifndef PILLION_CAPTURE_OUTPUT_H
#define PILLION_CAPTURE_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"

enum output_form {
    OUTPUT_JSON,     /* one JSON object: its brackets and quotes have to close */
    OUTPUT_PROFILE,  /* likewise, and its samples are counted */
    OUTPUT_SNAPSHOT, /* heap snapshot: read as it goes by, counts and end have to fit */
};

struct output;

/* What a CPU profile says of itself; 0: not found. */
struct output_profile {
    uint64_t samples;
    uint64_t start_us, end_us;
};

/* A new file `name` (copied) in work_fd, 0600. */
int output_file(struct output **ret, int work_fd, const char *name, enum output_form form);
/* Memory, at most `max` bytes; beyond: -EFBIG. 0: nowhere, it is only looked at. */
int output_memory(struct output **ret, size_t max, enum output_form form);
int output_push(struct output *o, const void *data, size_t len);
/* After the last byte: 0 when it is whole and on the disk; -EBADMSG when it is not, with the reason in `why` (256 bytes). */
int output_end(struct output *o, char *why);
/* A file that was not ended well, or not taken, is removed. */
void output_free(struct output *o);

uint64_t output_raw_bytes(const struct output *o);  /* so far; any thread */
uint64_t output_file_bytes(const struct output *o); /* after the end */
const char *output_name(const struct output *o);    /* of the file; NULL: memory */
const char *output_sha256(const struct output *o);  /* of the file; after the end */
const struct output_profile *output_profile(const struct output *o);
/* Memory; NULL when there is none. */
const char *output_text(const struct output *o, size_t *ret_len);
/* Heap snapshot that has ended well: what is in it by class, the `top` largest; 0: all of them. */
void output_summary(const struct output *o, size_t top, struct buf *out);
/* Share of the nodes that have come, 0 to 1; NaN: not known. An estimate for people: read on another thread while it grows. */
double output_share(const struct output *o);
/* The file stays when `o` is freed. */
void output_keep(struct output *o);

#endif
