#include "uploader/spool/record.h"

#include <errno.h>

#include "agent/base/mem.h"
#include "uploader/spool/crc32c.h"

#define ENTRY_BYTES  3  /* kind, length */
#define WORKER_BYTES 16 /* last, count; the id follows */

enum { ENTRY_WORKER = 1 };

/* Not text at its first byte, and no beginning of gzip. */
static const unsigned char magic[4] = {0x9e, 'P', 'S', 'R'};

static void put(unsigned char *p, uint64_t v, size_t n) {
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static uint64_t get(const unsigned char *p, size_t n) {
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

void spool_head_put(const struct spool_head *h, unsigned char out[SPOOL_HEAD_BYTES]) {
    memset(out, 0, SPOOL_HEAD_BYTES);
    memcpy(out, magic, sizeof(magic));
    out[4] = h->version;
    out[5] = h->needs;
    out[6] = h->form;
    put(out + 8, h->index_bytes, 4);
    put(out + 12, h->data_bytes, 4);
    put(out + 16, h->number, 8);
    put(out + 24, h->seq, 8);
    memcpy(out + 32, h->boot, SPOOL_BOOT_BYTES);
    put(out + 48, (uint64_t)h->time_ms, 8);
    put(out + 56, h->records, 4);
    put(out + 60, h->raw_bytes, 4);
    put(out + 64, h->body_crc, 4);
    put(out + 68, crc32c(0, out, 68), 4);
}

static int head_v1(struct spool_head *h, const unsigned char *in) {
    h->index_bytes = (uint32_t)get(in + 8, 4);
    h->data_bytes = (uint32_t)get(in + 12, 4);
    h->number = get(in + 16, 8);
    h->seq = get(in + 24, 8);
    memcpy(h->boot, in + 32, SPOOL_BOOT_BYTES);
    h->time_ms = (int64_t)get(in + 48, 8);
    h->records = (uint32_t)get(in + 56, 4);
    h->raw_bytes = (uint32_t)get(in + 60, 4);
    h->body_crc = (uint32_t)get(in + 64, 4);
    if (h->number == 0 || h->index_bytes > SPOOL_INDEX_MAX || h->data_bytes > SPOOL_DATA_MAX)
        return -EBADMSG;
    return 0;
}

/* Adds the form. */
static int head_v2(struct spool_head *h, const unsigned char *in) {
    h->form = in[6];
    if (h->form > SPOOL_PACKED)
        return -EPROTONOSUPPORT;
    return head_v1(h, in);
}

static int index_v1(const unsigned char *p, size_t len,
                    void (*worker)(void *arg, const struct spool_worker *w), void *arg) {
    while (len > 0) {
        struct spool_worker w = {.id = ""};
        size_t n;

        if (len < ENTRY_BYTES)
            return -EBADMSG;
        n = (size_t)get(p + 1, 2);
        if (n > len - ENTRY_BYTES)
            return -EBADMSG;
        if (p[0] == ENTRY_WORKER && n > WORKER_BYTES && n - WORKER_BYTES < sizeof(w.id)) {
            w.last = get(p + ENTRY_BYTES, 8);
            w.count = get(p + ENTRY_BYTES + 8, 8);
            memcpy(w.id, p + ENTRY_BYTES + WORKER_BYTES, n - WORKER_BYTES);
            worker(arg, &w);
        }
        p += ENTRY_BYTES + n;
        len -= ENTRY_BYTES + n;
    }
    return 0;
}

/* Every format that can be read, newest first. What is `needs` of a record must be one of them. */
static const struct reader {
    uint8_t version;
    int (*head)(struct spool_head *h, const unsigned char *in);
    int (*index)(const unsigned char *p, size_t len,
                 void (*worker)(void *arg, const struct spool_worker *w), void *arg);
} readers[] = {
    {2, head_v2, index_v1},
    {1, head_v1, index_v1},
};

static const struct reader *reader_of(uint8_t needs) {
    for (size_t i = 0; i < ARRAY_LEN(readers); i++)
        if (readers[i].version == needs)
            return &readers[i];
    return NULL;
}

int spool_head_get(struct spool_head *ret, const unsigned char in[SPOOL_HEAD_BYTES]) {
    const struct reader *r;

    if (memcmp(in, magic, sizeof(magic)) != 0 || get(in + 68, 4) != crc32c(0, in, 68))
        return -EBADMSG;
    *ret = (struct spool_head){.version = in[4], .needs = in[5]};
    r = reader_of(ret->needs);
    return r != NULL ? r->head(ret, in) : -EPROTONOSUPPORT;
}

bool spool_head_begins(const unsigned char *p, size_t n) {
    return memcmp(p, magic, n < sizeof(magic) ? n : sizeof(magic)) == 0;
}

size_t spool_head_find(const unsigned char *p, size_t n) {
    const unsigned char *at = p, *end = p + n;

    while (at < end && (at = memchr(at, magic[0], (size_t)(end - at))) != NULL) {
        if (spool_head_begins(at, (size_t)(end - at)))
            return (size_t)(at - p);
        at++;
    }
    return n;
}

uint32_t spool_body_crc(const void *index, size_t index_len, const void *data, size_t data_len) {
    return crc32c(crc32c(0, index, index_len), data, data_len);
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int spool_boot_parse(unsigned char out[SPOOL_BOOT_BYTES], const char *hex) {
    if (strlen(hex) != 2 * SPOOL_BOOT_BYTES)
        return -EINVAL;
    for (size_t i = 0; i < SPOOL_BOOT_BYTES; i++) {
        int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

        if (high < 0 || low < 0)
            return -EINVAL;
        out[i] = (unsigned char)(high << 4 | low);
    }
    return 0;
}

void spool_boot_format(char out[2 * SPOOL_BOOT_BYTES + 1], const unsigned char *boot) {
    for (size_t i = 0; i < SPOOL_BOOT_BYTES; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", boot[i]);
}

void spool_index_add(struct buf *index, const char *id, uint64_t last, uint64_t count) {
    unsigned char entry[ENTRY_BYTES + WORKER_BYTES];
    size_t len = strlen(id);

    if (len == 0 || len >= SPOOL_ID_BYTES)
        return; /* no worker has such a name */
    entry[0] = ENTRY_WORKER;
    put(entry + 1, WORKER_BYTES + len, 2);
    put(entry + ENTRY_BYTES, last, 8);
    put(entry + ENTRY_BYTES + 8, count, 8);
    buf_add(index, entry, sizeof(entry));
    buf_add(index, id, len);
}

int spool_index_walk(const void *index, size_t len, uint8_t needs,
                     void (*worker)(void *arg, const struct spool_worker *w), void *arg) {
    const struct reader *r = reader_of(needs);

    return r != NULL ? r->index(index, len, worker, arg) : -EPROTONOSUPPORT;
}
