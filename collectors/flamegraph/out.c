#include "collectors/flamegraph/out.h"

#include <errno.h>
#include <stdarg.h>
#include <zlib.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"

#define OUT_BYTES    65536
#define GZIP_LEVEL   1
#define PRINTF_BYTES 1024

struct out {
    int fd, err;
    bool gzip, base64;
    z_stream z;
    size_t len, raw_len;
    unsigned char raw[3 * 1024]; /* for base64; a multiple of 3 */
    unsigned char data[OUT_BYTES];
    unsigned char packed[OUT_BYTES];
};

static void *z_alloc(void *opaque, uInt n, uInt size) {
    (void)opaque;
    return mem_calloc(n, size);
}

static void z_release(void *opaque, void *p) {
    (void)opaque;
    mem_free(p);
}

int out_new(struct out **ret, int fd, bool gzip) {
    struct out *o = mem_alloc(sizeof(*o));

    if (o == NULL)
        return -ENOMEM;
    memset(o, 0, offsetof(struct out, raw));
    o->fd = fd;
    o->gzip = gzip;
    o->z.zalloc = z_alloc;
    o->z.zfree = z_release;
    if (gzip &&
        deflateInit2(&o->z, GZIP_LEVEL, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        mem_free(o);
        return -ENOMEM;
    }
    *ret = o;
    return 0;
}

static void flush(struct out *o, int mode) {
    if (!o->gzip) {
        if (o->err == 0)
            o->err = fs_write_all(o->fd, o->data, o->len);
        o->len = 0;
        return;
    }
    o->z.next_in = o->data;
    o->z.avail_in = (uInt)o->len;
    do {
        o->z.next_out = o->packed;
        o->z.avail_out = OUT_BYTES;
        (void)deflate(&o->z, mode); /* fails only on misuse; Z_BUF_ERROR is no error */
        if (o->err == 0)
            o->err = fs_write_all(o->fd, o->packed, OUT_BYTES - o->z.avail_out);
    } while (o->z.avail_out == 0);
    o->len = 0;
}

int out_close(struct out *o) {
    int rc;

    flush(o, Z_FINISH);
    if (o->gzip)
        (void)deflateEnd(&o->z);
    rc = o->err;
    mem_free(o);
    return rc;
}

static void put(struct out *o, const void *p, size_t n) {
    const unsigned char *from = p;

    while (n > 0) {
        size_t room = OUT_BYTES - o->len, k = n < room ? n : room;

        memcpy(o->data + o->len, from, k);
        o->len += k;
        from += k;
        n -= k;
        if (o->len == OUT_BYTES)
            flush(o, Z_NO_FLUSH);
    }
}

static void put_base64(struct out *o) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char text[sizeof(o->raw) / 3 * 4];
    size_t n = 0, left = o->raw_len;

    for (const unsigned char *p = o->raw; left > 0; p += 3) {
        uint32_t v =
            (uint32_t)p[0] << 16 | (left > 1 ? (uint32_t)p[1] << 8 : 0) | (left > 2 ? p[2] : 0);

        text[n++] = (unsigned char)letters[v >> 18];
        text[n++] = (unsigned char)letters[v >> 12 & 63];
        text[n++] = left > 1 ? (unsigned char)letters[v >> 6 & 63] : '=';
        text[n++] = left > 2 ? (unsigned char)letters[v & 63] : '=';
        left -= left < 3 ? left : 3;
    }
    put(o, text, n);
    o->raw_len = 0;
}

void out_add(struct out *o, const void *p, size_t n) {
    const unsigned char *from = p;

    if (!o->base64) {
        put(o, p, n);
        return;
    }
    while (n > 0) {
        size_t room = sizeof(o->raw) - o->raw_len, k = n < room ? n : room;

        memcpy(o->raw + o->raw_len, from, k);
        o->raw_len += k;
        from += k;
        n -= k;
        if (o->raw_len == sizeof(o->raw))
            put_base64(o);
    }
}

void out_base64_begin(struct out *o) {
    o->base64 = true;
}

void out_base64_end(struct out *o) {
    put_base64(o);
    o->base64 = false;
}

void out_puts(struct out *o, const char *s) {
    out_add(o, s, strlen(s));
}

void out_putc(struct out *o, char c) {
    out_add(o, &c, 1);
}

void out_printf(struct out *o, const char *fmt, ...) {
    char text[PRINTF_BYTES];
    va_list args;
    int n;

    va_start(args, fmt);
    n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    if (n > 0)
        out_add(o, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

void out_u64(struct out *o, uint64_t v) {
    char text[20], *p = text + sizeof(text);

    do
        *--p = (char)('0' + v % 10);
    while ((v /= 10) > 0);
    out_add(o, p, (size_t)(text + sizeof(text) - p));
}

void out_escaped(struct out *o, const char *s) {
    while (*s != '\0') {
        size_t n = strcspn(s, "&<>\"'");

        out_add(o, s, n);
        s += n;
        if (*s != '\0')
            out_printf(o, "&#%d;", *s++);
    }
}

void out_json(struct out *o, const char *s) {
    out_putc(o, '"');
    while (*s != '\0') {
        size_t n = strcspn(s, "\"\\");

        out_add(o, s, n);
        s += n;
        if (*s != '\0') {
            out_putc(o, '\\');
            out_putc(o, *s++);
        }
    }
    out_putc(o, '"');
}

void out_varint(struct out *o, uint64_t v) {
    unsigned char bytes[10];
    size_t n = 0;

    for (; v >= 0x80; v >>= 7)
        bytes[n++] = (unsigned char)(v | 0x80);
    bytes[n++] = (unsigned char)v;
    out_add(o, bytes, n);
}
