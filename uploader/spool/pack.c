/* crc-32 of the lines and their number, 4 bytes each, little endian; then what bits.c makes of lines.c. */
#include "uploader/spool/pack.h"

#include <errno.h>
#include <inttypes.h>
#include <zlib.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "uploader/records.h"
#include "uploader/spool/iso.h"
#include "uploader/spool/lines.h"

#define HEAD_BYTES 8

static void put(unsigned char *p, uint32_t v) {
    for (size_t i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static uint32_t get(const unsigned char *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* --- a line in pieces --- */

struct pieces {
    struct piece *items;
    size_t n, cap;
};

/* Behind the next `":`; `end` when there is none. */
static const char *behind_key(const char *p, const char *end) {
    while ((p = memchr(p, ':', (size_t)(end - p))) != NULL) {
        p++;
        if (p[-2] == '"')
            return p;
    }
    return end;
}

/* Behind the value at p, as far as it is one that we know; p itself for any other. */
static const char *take_value(struct piece *ret, const char *p, const char *end) {
    const char *at = p;

    ret->kind = PIECE_NOTHING;
    if (at < end && *at == '"') {
        for (at++; at < end && *at != '"'; at++)
            at += *at == '\\' && at + 1 < end;
        if (at == end)
            return p;
        ret->text = p + 1;
        ret->text_len = (size_t)(at - p - 1);
        ret->number = (struct decimal){0};
        ret->kind = iso_parse(&ret->number.m, ret->text, ret->text_len) ? PIECE_TIME : PIECE_STRING;
        return at + 1;
    }
    while (at < end && strchr(",}]{[ \":", *at) == NULL)
        at++;
    if (at == p)
        return p;
    ret->text = p;
    ret->text_len = (size_t)(at - p);
    ret->kind = decimal_parse(&ret->number, ret->text, ret->text_len) ? PIECE_NUMBER : PIECE_RAW;
    return at;
}

static int add_piece(struct pieces *s, const struct piece *p) {
    if (s->n == s->cap) {
        size_t cap = s->cap == 0 ? 256 : 2 * s->cap;
        struct piece *items = mem_realloc(s->items, cap * sizeof(*items));

        if (items == NULL)
            return -ENOMEM;
        s->items = items;
        s->cap = cap;
    }
    s->items[s->n++] = *p;
    return 0;
}

static int take_apart(struct pieces *s, const char *line, size_t len) {
    const char *p = line, *end = line + len;
    int rc = 0;

    s->n = 0;
    while (rc == 0) {
        const char *word_end = len > 0 && p < end ? behind_key(p == line ? p + 1 : p, end) : end;
        struct piece piece = {.word = p, .word_len = (size_t)(word_end - p), .text = ""};

        if (word_end == end) {
            piece.kind = PIECE_END;
            return add_piece(s, &piece);
        }
        p = take_value(&piece, word_end, end);
        rc = add_piece(s, &piece);
    }
    return rc;
}

/* --- pack --- */

struct packer {
    struct lines *lines;
    struct pieces pieces;
    struct bits bits;
    uint32_t crc, n;
    size_t raw_bytes;
};

static int pack_line(struct packer *p, const char *line, size_t len) {
    int rc = take_apart(&p->pieces, line, len);

    if (rc != 0)
        return rc;
    p->crc = (uint32_t)crc32(p->crc, (const unsigned char *)line, (unsigned)len);
    p->crc = (uint32_t)crc32(p->crc, (const unsigned char *)"\n", 1);
    p->n++;
    p->raw_bytes += len + 1;
    lines_write(p->lines, &p->bits, p->pieces.items, p->pieces.n);
    return p->bits.err;
}

static int pack_lines(struct packer *p, struct records *r) {
    const char *head = records_head(r)->line;
    char *line;
    size_t len;
    int rc = pack_line(p, head, strlen(head));

    while (rc == 0) {
        int got = records_next(r, &line, &len);

        if (got != 1)
            return got;
        rc = pack_line(p, line, len);
    }
    return rc;
}

int pack_batch(struct buf *out, const struct batch *b) {
    struct packer p = {.lines = NULL};
    unsigned char head[HEAD_BYTES] = {0};
    size_t at = out->len;
    struct records *r = NULL;
    int rc = records_open(&r, b);

    if (rc != 0)
        return rc;
    rc = lines_new(&p.lines);
    buf_add(out, head, sizeof(head));
    bits_write(&p.bits, out);
    if (rc == 0)
        rc = pack_lines(&p, r);
    if (rc == 0)
        rc = bits_finish(&p.bits);
    if (rc == 0 && p.raw_bytes != b->raw_bytes)
        rc = -EBADMSG; /* a zero byte in its first line */
    if (rc == 0) {
        put((unsigned char *)out->data + at, p.crc);
        put((unsigned char *)out->data + at + 4, p.n);
    }
    records_close(r);
    lines_free(p.lines);
    mem_free(p.pieces.items);
    return rc;
}

/* --- unpack --- */

struct unpack {
    struct lines *lines;
    struct bits bits;
    struct buf line;
    uint32_t crc, crc_so_far, left, raw_bytes;
};

int unpack_open(struct unpack **ret, const void *packed, size_t len, uint32_t raw_bytes) {
    const unsigned char *p = packed;
    struct unpack *u;
    int rc;

    if (len < HEAD_BYTES)
        return -EBADMSG;
    u = mem_calloc(1, sizeof(*u));
    if (u == NULL)
        return -ENOMEM;
    u->crc = get(p);
    u->left = get(p + 4);
    u->raw_bytes = raw_bytes;
    buf_init(&u->line, raw_bytes);
    bits_read(&u->bits, p + HEAD_BYTES, len - HEAD_BYTES);
    rc = lines_new(&u->lines);
    if (rc == 0)
        *ret = u;
    else
        unpack_close(u);
    return rc;
}

void unpack_close(struct unpack *u) {
    if (u == NULL)
        return;
    lines_free(u->lines);
    buf_clear(&u->line);
    mem_free(u);
}

int unpack_next(struct unpack *u, const char **ret_line, size_t *ret_len) {
    if (u->left == 0)
        return u->raw_bytes == 0 && u->crc == u->crc_so_far ? 0 : -EBADMSG;
    buf_reset(&u->line);
    u->line.max = u->raw_bytes;
    lines_read(u->lines, &u->bits, &u->line);
    if (u->bits.err != 0)
        return u->bits.err;
    u->left--;
    u->raw_bytes -= (uint32_t)u->line.len;
    u->crc_so_far =
        (uint32_t)crc32(u->crc_so_far, (const unsigned char *)u->line.data, (unsigned)u->line.len);
    *ret_line = u->line.data;
    *ret_len = u->line.len;
    return 1;
}

/* The header line is made anew from what it begins with, and has to be the same. */
static int begin_again(struct batch_writer **ret, const char *line, size_t len, uint64_t seq,
                       uint32_t records) {
    char tail[64];
    size_t n = (size_t)snprintf(tail, sizeof(tail), "%" PRIu64 ",\"records\":%" PRIu32 "}\n", seq,
                                records);
    int rc;

    if (records == 0 || len < n || memcmp(line + len - n, tail, n) != 0)
        return -EBADMSG;
    rc = batch_writer_new_like(ret, line, len - n);
    if (rc == 0)
        rc = batch_writer_begin(*ret, seq);
    return rc == -E2BIG ? -EBADMSG : rc;
}

int unpack_batch(struct batch **ret, const void *packed, size_t len, uint32_t raw_bytes,
                 uint64_t seq, uint32_t records) {
    struct batch_writer *w = NULL;
    struct unpack *u = NULL;
    const char *line;
    size_t n;
    int rc = unpack_open(&u, packed, len, raw_bytes);

    if (rc == 0)
        rc = unpack_next(u, &line, &n);
    if (rc == 1)
        rc = begin_again(&w, line, n, seq, records);
    while (rc == 0) {
        rc = unpack_next(u, &line, &n);
        if (rc != 1)
            break;
        rc = batch_writer_add(w, line, n - 1);
    }
    if (rc == 0 && (w == NULL || batch_writer_records(w) != records))
        rc = -EBADMSG;
    if (rc == 0)
        rc = batch_writer_finish(w, ret);
    batch_writer_free(w);
    unpack_close(u);
    return rc == 0 || rc == -ENOMEM ? rc : -EBADMSG;
}

bool pack_holds(const void *packed, size_t len, const struct batch *b) {
    struct batch *again = NULL;
    bool same =
        unpack_batch(&again, packed, len, (uint32_t)b->raw_bytes, b->seq, b->records) == 0 &&
        again->len == b->len && memcmp(again->data, b->data, b->len) == 0;

    batch_unref(again);
    return same;
}
