#include "ipc/frame.h"

#include <endian.h>
#include <errno.h>

#include "agent/base/mem.h"

/* Most frames that come in two parts are a sample of some 100 numbers. */
#define FIRST_BYTES 1024u

void frame_reader_init(struct frame_reader *r) {
    *r = (struct frame_reader){0};
}

void frame_reader_clear(struct frame_reader *r) {
    mem_free(r->payload);
    frame_reader_init(r);
}

bool frame_pending(const struct frame_reader *r) {
    return r->have > 0;
}

uint64_t frame_get_u64(const uint8_t *p) {
    uint64_t v;

    memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

double frame_get_f64(const uint8_t *p) {
    uint64_t bits = frame_get_u64(p);
    double v;

    memcpy(&v, &bits, sizeof(v));
    return v;
}

void frame_put_u64(uint8_t *p, uint64_t v) {
    v = htole64(v);
    memcpy(p, &v, sizeof(v));
}

static uint32_t payload_length(const uint8_t *header) {
    uint32_t v;

    memcpy(&v, header, sizeof(v));
    return le32toh(v);
}

static bool length_allowed(uint32_t len) {
    return len >= 1 && len <= FRAME_PAYLOAD_BYTES;
}

void frame_put_header(uint8_t out[FRAME_HEADER_BYTES], uint8_t type, uint32_t payload_len) {
    uint32_t len = htole32(payload_len);

    memset(out, 0, FRAME_HEADER_BYTES);
    memcpy(out, &len, sizeof(len));
    out[4] = type;
}

/* Room for `need` bytes of a payload that will have `whole`: doubled, so that the announced length alone costs nothing. */
static int grow(struct frame_reader *r, uint32_t need, uint32_t whole) {
    uint32_t cap = r->cap > 0 ? r->cap : FIRST_BYTES;
    uint8_t *p;

    if (need <= r->cap)
        return 0;
    while (cap < need)
        cap *= 2;
    if (cap > whole)
        cap = whole;
    p = mem_realloc(r->payload, cap);
    if (p == NULL)
        return -ENOMEM;
    r->payload = p;
    r->cap = cap;
    return 0;
}

static size_t at_most(size_t n, size_t max) {
    return n < max ? n : max;
}

/* Adds to the frame that has begun what belongs to it. Returns the number of bytes taken, or a negative errno. */
static ssize_t take(struct frame_reader *r, const uint8_t *data, size_t len) {
    size_t taken = 0, n;
    uint32_t whole, got;
    int rc;

    if (r->have < FRAME_HEADER_BYTES) {
        n = at_most(len, FRAME_HEADER_BYTES - r->have);
        memcpy(r->header + r->have, data, n);
        r->have += (uint32_t)n;
        taken = n;
        if (r->have < FRAME_HEADER_BYTES)
            return (ssize_t)taken;
    }
    whole = payload_length(r->header);
    if (!length_allowed(whole))
        return -EMSGSIZE;
    got = r->have - FRAME_HEADER_BYTES;
    n = at_most(len - taken, whole - got);
    if (n == 0)
        return (ssize_t)taken;
    rc = grow(r, got + (uint32_t)n, whole);
    if (rc != 0)
        return rc;
    memcpy(r->payload + got, data + taken, n);
    r->have += (uint32_t)n;
    return (ssize_t)(taken + n);
}

static bool is_whole(const struct frame_reader *r) {
    return r->have >= FRAME_HEADER_BYTES &&
           r->have - FRAME_HEADER_BYTES == payload_length(r->header);
}

int frame_feed(struct frame_reader *r, const uint8_t *data, size_t len, frame_cb cb, void *arg) {
    ssize_t taken;
    uint32_t whole;
    int rc;

    if (frame_pending(r)) {
        taken = take(r, data, len);
        if (taken < 0)
            return (int)taken;
        data += taken;
        len -= (size_t)taken;
        if (!is_whole(r))
            return 0;
        rc = cb(arg, r->header[4], r->payload, r->have - FRAME_HEADER_BYTES);
        frame_reader_clear(r);
        if (rc != 0)
            return rc;
    }
    while (len >= FRAME_HEADER_BYTES) {
        whole = payload_length(data);
        if (!length_allowed(whole))
            return -EMSGSIZE;
        if (len - FRAME_HEADER_BYTES < whole)
            break;
        rc = cb(arg, data[4], data + FRAME_HEADER_BYTES, whole);
        if (rc != 0)
            return rc;
        data += FRAME_HEADER_BYTES + whole;
        len -= FRAME_HEADER_BYTES + whole;
    }
    taken = len > 0 ? take(r, data, len) : 0;
    return taken < 0 ? (int)taken : 0;
}
