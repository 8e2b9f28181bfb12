#include "uploader/body.h"

#include <errno.h>

#include "agent/base/mem.h"

#define STEP_BYTES  16384
#define WINDOW_BITS 14
#define MEM_LEVEL   7

static void *z_alloc(void *opaque, unsigned items, unsigned size) {
    (void)opaque;
    return mem_calloc(items, size);
}

static void z_free(void *opaque, void *p) {
    (void)opaque;
    mem_free(p);
}

void body_begin(struct body *b, size_t max) {
    *b = (struct body){.z = {.zalloc = z_alloc, .zfree = z_free}};
    buf_init(&b->out, max);
    b->open =
        deflateInit2(&b->z, 1, Z_DEFLATED, WINDOW_BITS + 16, MEM_LEVEL, Z_DEFAULT_STRATEGY) == Z_OK;
    b->err = b->open ? 0 : -ENOMEM;
}

static void run(struct body *b, int flush) {
    int rc;

    do {
        size_t had = b->out.len;

        b->err = buf_reserve(&b->out, STEP_BYTES);
        if (b->err != 0)
            return;
        b->z.next_out = (unsigned char *)b->out.data + had;
        b->z.avail_out = STEP_BYTES;
        rc = deflate(&b->z, flush);
        b->out.len += STEP_BYTES - b->z.avail_out;
    } while (b->z.avail_out == 0 && rc == Z_OK);
    b->out.data[b->out.len] = '\0';
}

void body_add(struct body *b, const void *data, size_t len) {
    if (b->err != 0 || len == 0)
        return;
    b->raw += len;
    b->z.next_in = (unsigned char *)(uintptr_t)data; /* zlib's type lacks the const */
    b->z.avail_in = (unsigned)len;
    run(b, Z_NO_FLUSH);
}

int body_end(struct body *b) {
    if (b->err == 0) {
        b->z.next_in = NULL;
        b->z.avail_in = 0;
        run(b, Z_FINISH);
    }
    if (b->open)
        (void)deflateEnd(&b->z); /* frees */
    b->open = false;
    return b->err;
}

void body_clear(struct body *b) {
    if (b->open)
        (void)deflateEnd(&b->z); /* frees */
    b->open = false;
    buf_clear(&b->out);
}
