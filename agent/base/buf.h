/* buf.h - a growing byte buffer with a cap.
 *
 * Errors stick: after the first failed append (-ENOMEM, or -ENOBUFS beyond `max`) all later ones do nothing and `err` tells,
 * so that a writer checks once at its end. The content is always NUL-terminated (the NUL is not counted in `len`). */
#ifndef PILLION_BUF_H
#define PILLION_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; /* owned; NULL while empty */
    size_t len;
    size_t cap;
    size_t max; /* most bytes of content */
    int err;    /* 0 or the first error, a negative errno */
};

void buf_init(struct buf *b, size_t max);
void buf_clear(struct buf *b); /* frees; the buffer can be used again */
void buf_reset(struct buf *b); /* empties, keeps the memory */
/* Hands the content to the caller (mem_free) and leaves the buffer empty; NULL when nothing was ever written. */
char *buf_take(struct buf *b, size_t *ret_len);

int buf_reserve(struct buf *b,
                size_t more); /* room for so many bytes: then data + len may be written to */
void buf_add(struct buf *b, const void *p, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void buf_json_string(struct buf *b, const char *s);
/* Shortest decimal that reads back as the same number; "null" for NaN and infinities. */
void buf_number(struct buf *b, double v);
#define BUF_NUMBER_BYTES 32
/* The same without a buffer; returns the length. Not terminated. */
size_t buf_format_number(char out[BUF_NUMBER_BYTES], double v);
void buf_u64(struct buf *b, uint64_t v);

#endif
