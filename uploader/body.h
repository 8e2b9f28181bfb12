/* body.h - the body of a request, deflated as it is written: gzip, one member. Any thread, one at a time. */
#ifndef PILLION_UPLOADER_BODY_H
#define PILLION_UPLOADER_BODY_H

#include <stdbool.h>
#include <zlib.h>

#include "agent/base/buf.h"

struct body {
    z_stream z;
    struct buf out; /* the gzip member after body_end() */
    size_t raw;     /* bytes before compression */
    bool open;
    int err; /* sticks: -ENOMEM, -ENOBUFS beyond max */
};

/* max: of the compressed bytes. */
void body_begin(struct body *b, size_t max);
void body_add(struct body *b, const void *data, size_t len);
int body_end(struct body *b);
void body_clear(struct body *b); /* frees; all zero is fine */

#endif
