/* protobuf.h - the wire format of Protocol Buffers, as much as OTLP needs of it (protobuf.dev/programming-guides/encoding).
 *
 * A message inside another is opened and closed; its length stands in front of it in four bytes, padded, as every reader takes it. */
#ifndef PILLION_UPLOADER_SINKS_PROTOBUF_H
#define PILLION_UPLOADER_SINKS_PROTOBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"

/* Errors stick in the buffer. */
void pb_uint(struct buf *b, unsigned field, uint64_t v);
void pb_fixed64(struct buf *b, unsigned field, uint64_t v);
void pb_double(struct buf *b, unsigned field, double v);
void pb_bytes(struct buf *b, unsigned field, const void *data, size_t len);
void pb_string(struct buf *b, unsigned field, const char *s);
/* What is written until pb_close(b, the result) is the message `field`. */
size_t pb_open(struct buf *b, unsigned field);
void pb_close(struct buf *b, size_t mark);

/* Reading: the next field of a message. 1 with it, 0 at the end, -EBADMSG. */
struct pb_field {
    unsigned number;
    uint64_t value;   /* of a varint or fixed one */
    const char *data; /* of one with a length; NULL for others */
    size_t len;
};

int pb_next(const char **p, const char *end, struct pb_field *ret);

#endif
