#include "uploader/sinks/protobuf.h"

#include <errno.h>

#include "agent/base/mem.h"

enum wire { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_LENGTH = 2, WIRE_FIXED32 = 5 };

#define LENGTH_BYTES 4 /* of a message: up to 256 MiB */

static void put_varint(struct buf *b, uint64_t v) {
    unsigned char bytes[10];
    size_t n = 0;

    do {
        bytes[n] = (unsigned char)(v & 0x7f);
        v >>= 7;
        if (v != 0)
            bytes[n] |= 0x80;
        n++;
    } while (v != 0);
    buf_add(b, bytes, n);
}

static void put_tag(struct buf *b, unsigned field, enum wire wire) {
    put_varint(b, (uint64_t)field << 3 | wire);
}

void pb_uint(struct buf *b, unsigned field, uint64_t v) {
    put_tag(b, field, WIRE_VARINT);
    put_varint(b, v);
}

void pb_fixed64(struct buf *b, unsigned field, uint64_t v) {
    unsigned char bytes[8];

    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(v >> (8 * i));
    put_tag(b, field, WIRE_FIXED64);
    buf_add(b, bytes, sizeof(bytes));
}

void pb_double(struct buf *b, unsigned field, double v) {
    uint64_t bits;

    memcpy(&bits, &v, sizeof(bits));
    pb_fixed64(b, field, bits);
}

void pb_bytes(struct buf *b, unsigned field, const void *data, size_t len) {
    put_tag(b, field, WIRE_LENGTH);
    put_varint(b, len);
    buf_add(b, data, len);
}

void pb_string(struct buf *b, unsigned field, const char *s) {
    pb_bytes(b, field, s, strlen(s));
}

size_t pb_open(struct buf *b, unsigned field) {
    put_tag(b, field, WIRE_LENGTH);
    buf_add(b, "\0\0\0\0", LENGTH_BYTES);
    return b->len;
}

void pb_close(struct buf *b, size_t mark) {
    size_t len = b->len - mark;

    if (b->err != 0)
        return;
    for (size_t i = 0; i < LENGTH_BYTES; i++)
        b->data[mark - LENGTH_BYTES + i] =
            (char)(((len >> (7 * i)) & 0x7f) | (i + 1 < LENGTH_BYTES ? 0x80 : 0));
}

static int get_varint(const char **p, const char *end, uint64_t *ret) {
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64 && *p < end; shift += 7) {
        unsigned char c = (unsigned char)*(*p)++;

        v |= (uint64_t)(c & 0x7f) << shift;
        if ((c & 0x80) == 0) {
            *ret = v;
            return 0;
        }
    }
    return -EBADMSG;
}

static int get_fixed(const char **p, const char *end, size_t n, uint64_t *ret) {
    if ((size_t)(end - *p) < n)
        return -EBADMSG;
    *ret = 0;
    for (size_t i = 0; i < n; i++)
        *ret |= (uint64_t)(unsigned char)(*p)[i] << (8 * i);
    *p += n;
    return 0;
}

int pb_next(const char **p, const char *end, struct pb_field *ret) {
    uint64_t tag, len;
    int rc;

    if (*p == end)
        return 0;
    *ret = (struct pb_field){0};
    if (get_varint(p, end, &tag) != 0 || tag >> 3 == 0 || tag >> 3 > 536870911)
        return -EBADMSG;
    ret->number = (unsigned)(tag >> 3);
    switch (tag & 7) {
    case WIRE_VARINT:
        rc = get_varint(p, end, &ret->value);
        break;
    case WIRE_FIXED64:
        rc = get_fixed(p, end, 8, &ret->value);
        break;
    case WIRE_FIXED32:
        rc = get_fixed(p, end, 4, &ret->value);
        break;
    case WIRE_LENGTH:
        rc = get_varint(p, end, &len);
        if (rc == 0 && len > (uint64_t)(end - *p))
            rc = -EBADMSG;
        if (rc != 0)
            break;
        ret->data = *p;
        ret->len = (size_t)len;
        *p += len;
        break;
    default:
        rc = -EBADMSG;
    }
    return rc == 0 ? 1 : rc;
}
