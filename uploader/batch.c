#include "uploader/batch.h"

#include <errno.h>
#include <inttypes.h>
#include <zlib.h>

#include "agent/base/buf.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"

#define WINDOW_BITS 14
#define MEM_LEVEL   7
/* What deflate may hold back: zlib's own bound is 4 bytes for each of its 2^(MEM_LEVEL + 6)
 * buffered symbols. */
#define HELD_BYTES ((size_t)4 << (MEM_LEVEL + 6))
/* A byte of input becomes at most 31/3 bits (a match of three); and a little for block headers and
 * the 262 bytes of lookahead. */
#define ROOM_BYTES(len) (2 * HELD_BYTES + 2 * (len) + 2048)

#define STORED_BYTES  5
#define TRAILER_BYTES 8
#define HEADER_MAX    60000
#define NUMBERS_MAX   64 /* seq, ,"records":, records, }\n */
#define LENGTH_OFFSET 16

/* ID1 ID2 CM FLG(FEXTRA) MTIME×4 XFL(fastest) OS(Unix) XLEN×2 SI1 SI2 LEN×2, then the length. */
static const unsigned char head[LENGTH_OFFSET] = {0x1f, 0x8b, 8, 4, 0,   0,   0, 0,
                                                  4,    3,    8, 0, 'P', 'L', 4, 0};

struct batch_writer {
    z_stream z;
    char *prefix; /* of the header line, up to "seq": */
    size_t prefix_len;
    size_t gap; /* room before the body: gzip header, stored block, longest header line */
    struct batch *open;
    struct buf out; /* gap, then deflated records */
    uint32_t crc;
    size_t raw_bytes;
    int err;
};

struct batch *batch_ref(struct batch *b) {
    b->refs++;
    return b;
}

void batch_unref(struct batch *b) {
    if (b == NULL || --b->refs > 0)
        return;
    mem_free(b->mem);
    mem_free(b);
}

static void put_le(unsigned char *p, uint32_t v, size_t n) {
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

int64_t batch_member_bytes(const void *p, size_t n) {
    const unsigned char *b = p;
    uint32_t len = 0;

    if (memcmp(b, head, n < sizeof(head) ? n : sizeof(head)) != 0)
        return -EBADMSG;
    if (n < BATCH_HEAD_BYTES)
        return -EAGAIN;
    for (size_t i = 0; i < 4; i++)
        len |= (uint32_t)b[LENGTH_OFFSET + i] << (8 * i);
    if (len < BATCH_HEAD_BYTES + STORED_BYTES + TRAILER_BYTES)
        return -EBADMSG;
    return len;
}

static void *z_alloc(void *opaque, unsigned items, unsigned size) {
    (void)opaque;
    return mem_calloc(items, size);
}

static void z_free(void *opaque, void *p) {
    (void)opaque;
    mem_free(p);
}

static int make_prefix(char **ret, size_t *ret_len, const char *app, const char *instance,
                       const char *boot) {
    struct buf b;

    buf_init(&b, HEADER_MAX);
    buf_puts(&b, "{\"pillion\":1,\"app\":");
    buf_json_string(&b, app);
    buf_puts(&b, ",\"instance\":");
    buf_json_string(&b, instance);
    buf_puts(&b, ",\"boot\":");
    buf_json_string(&b, boot);
    buf_puts(&b, ",\"seq\":");
    if (b.err != 0) {
        int rc = b.err == -ENOBUFS ? -E2BIG : b.err;

        buf_clear(&b);
        return rc;
    }
    *ret = buf_take(&b, ret_len);
    return 0;
}

/* Takes the prefix, also on error. */
static int new_writer(struct batch_writer **ret, char *prefix, size_t len) {
    struct batch_writer *w = mem_calloc(1, sizeof(*w));

    if (w == NULL) {
        mem_free(prefix);
        return -ENOMEM;
    }
    buf_init(&w->out, SIZE_MAX / 4);
    w->z.zalloc = z_alloc;
    w->z.zfree = z_free;
    w->prefix = prefix;
    w->prefix_len = len;
    w->gap = BATCH_HEAD_BYTES + STORED_BYTES + len + NUMBERS_MAX;
    /* Raw deflate: header and trailer of the member are written here. */
    if (deflateInit2(&w->z, 1, Z_DEFLATED, -WINDOW_BITS, MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK) {
        batch_writer_free(w);
        return -ENOMEM;
    }
    *ret = w;
    return 0;
}

int batch_writer_new(struct batch_writer **ret, const char *app, const char *instance,
                     const char *boot) {
    size_t len;
    char *prefix;
    int rc = make_prefix(&prefix, &len, app, instance, boot);

    return rc == 0 ? new_writer(ret, prefix, len) : rc;
}

int batch_writer_new_like(struct batch_writer **ret, const char *prefix, size_t len) {
    char *copy = len <= HEADER_MAX ? mem_memdup(prefix, len) : NULL;

    if (len > HEADER_MAX)
        return -E2BIG;
    return copy != NULL ? new_writer(ret, copy, len) : -ENOMEM;
}

void batch_writer_free(struct batch_writer *w) {
    if (w == NULL)
        return;
    (void)deflateEnd(&w->z); /* says only that records were lost */
    buf_clear(&w->out);
    batch_unref(w->open);
    mem_free(w->prefix);
    mem_free(w);
}

int batch_writer_begin(struct batch_writer *w, uint64_t seq) {
    if (w->open == NULL) {
        w->open = mem_calloc(1, sizeof(*w->open));
        if (w->open == NULL)
            return -ENOMEM;
        w->open->refs = 1;
        w->raw_bytes = 0;
        w->crc = 0;
        w->err = 0;
        (void)deflateReset(&w->z); /* cannot fail with a good stream; forgets the tuning */
        (void)deflateTune(&w->z, 4, 8, 64, 4);
    }
    w->open->seq = seq;
    return 0;
}

static int deflate_part(struct batch_writer *w, const char *p, size_t len, int flush) {
    int rc;

    w->z.next_in = (unsigned char *)(uintptr_t)p; /* zlib's type lacks the const */
    w->z.avail_in = (unsigned)len;
    w->z.next_out = (unsigned char *)w->out.data + w->out.len;
    w->z.avail_out = (unsigned)(w->out.cap - w->out.len - 1);
    rc = deflate(&w->z, flush);
    w->out.len = (size_t)((char *)w->z.next_out - w->out.data);
    if (rc != (flush == Z_FINISH ? Z_STREAM_END : Z_OK) || w->z.avail_in != 0)
        w->err = -EIO;
    w->crc = (uint32_t)crc32(w->crc, (const unsigned char *)p, (unsigned)len);
    return w->err;
}

int batch_writer_add(struct batch_writer *w, const char *json, size_t len) {
    int rc;

    if (len > LIMIT_RECORD_BYTES)
        return -EMSGSIZE;
    /* Room for this record and for what finish() writes, before the stream is touched: then neither
     * can fail half-way. */
    rc = buf_reserve(&w->out, (w->out.len == 0 ? w->gap : 0) + ROOM_BYTES(len + 1) + TRAILER_BYTES);
    if (rc != 0) {
        w->out.err = 0;
        return rc;
    }
    if (w->out.len == 0)
        w->out.len = w->gap;
    if (len > 0)
        (void)deflate_part(w, json, len, Z_NO_FLUSH); /* sticks in w->err */
    (void)deflate_part(w, "\n", 1, Z_NO_FLUSH);
    w->raw_bytes += len + 1;
    w->open->records++;
    return w->err;
}

uint32_t batch_writer_records(const struct batch_writer *w) {
    return w->open != NULL ? w->open->records : 0;
}

size_t batch_writer_raw_bytes(const struct batch_writer *w) {
    return w->open != NULL ? w->raw_bytes : 0;
}

/* Writes gzip header, stored block and header line right in front of the body. */
static void put_header(struct batch_writer *w, struct batch *b) {
    char numbers[NUMBERS_MAX];
    size_t n = (size_t)snprintf(numbers, sizeof(numbers), "%" PRIu64 ",\"records\":%" PRIu32 "}\n",
                                b->seq, b->records);
    size_t line = w->prefix_len + n;
    unsigned char *p =
        (unsigned char *)w->out.data + w->gap - line - STORED_BYTES - BATCH_HEAD_BYTES;
    unsigned char *text = p + BATCH_HEAD_BYTES + STORED_BYTES;
    uint32_t crc;

    memcpy(p, head, sizeof(head));
    p[BATCH_HEAD_BYTES] = 0; /* stored, not the last block */
    put_le(p + BATCH_HEAD_BYTES + 1, (uint32_t)line, 2);
    put_le(p + BATCH_HEAD_BYTES + 3, ~(uint32_t)line, 2);
    memcpy(text, w->prefix, w->prefix_len);
    memcpy(text + w->prefix_len, numbers, n);
    crc = (uint32_t)crc32(0, text, (unsigned)line);
    crc = (uint32_t)crc32_combine(crc, w->crc, (z_off_t)w->raw_bytes);
    b->raw_bytes = w->raw_bytes + line;
    put_le((unsigned char *)w->out.data + w->out.len, crc, 4);
    put_le((unsigned char *)w->out.data + w->out.len + 4, (uint32_t)b->raw_bytes, 4);
    w->out.len += TRAILER_BYTES;
    b->data = (char *)p;
    b->len = (size_t)(w->out.data + w->out.len - (char *)p);
    put_le(p + LENGTH_OFFSET, (uint32_t)b->len, 4);
}

int batch_writer_finish(struct batch_writer *w, struct batch **ret) {
    struct batch *b = w->open;
    size_t used, offset;
    char *smaller;

    w->open = NULL;
    if (deflate_part(w, "", 0, Z_FINISH) != 0) {
        batch_unref(b);
        buf_reset(&w->out);
        return -EIO;
    }
    put_header(w, b);
    offset = (size_t)(b->data - w->out.data);
    b->mem = buf_take(&w->out, &used);
    smaller = mem_realloc(b->mem, used);
    if (smaller != NULL) /* else the block stays as large as it is */
        b->mem = smaller;
    b->data = b->mem + offset;
    *ret = b;
    return 0;
}
