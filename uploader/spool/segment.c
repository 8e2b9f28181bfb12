#include "uploader/spool/segment.h"

#include <errno.h>
#include <unistd.h>

#include "agent/base/mem.h"

#define SCAN_BYTES 16384

/* All n bytes, or -ENODATA when the file is shorter. */
static int read_at(int fd, uint64_t at, void *out, size_t n) {
    unsigned char *p = out;

    while (n > 0) {
        ssize_t k = pread(fd, p, n, (off_t)at);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 ? -errno : -ENODATA;
        p += k;
        at += (uint64_t)k;
        n -= (size_t)k;
    }
    return 0;
}

/* From `at` on: the next place that begins like a head, or the end. */
static int find_head(struct segment_walk *w, uint64_t *at) {
    unsigned char buf[SCAN_BYTES];

    while (*at < w->end) {
        size_t n = w->end - *at < sizeof(buf) ? (size_t)(w->end - *at) : sizeof(buf), k;
        int rc = read_at(w->fd, *at, buf, n);

        if (rc != 0)
            return rc;
        k = spool_head_find(buf, n);
        *at += k;
        if (k < n)
            return 0;
    }
    return 0;
}

/* What stands at `at`: 1 a record, -EPIPE a cut one, -EPROTONOSUPPORT a newer one, -EBADMSG none. */
static int look(const struct segment_walk *w, uint64_t at, struct spool_head *ret) {
    unsigned char head[SPOOL_HEAD_BYTES];
    uint64_t left = w->end - at;
    size_t n = left < sizeof(head) ? (size_t)left : sizeof(head);
    int rc = read_at(w->fd, at, head, n);

    if (rc != 0)
        return rc;
    if (n < sizeof(head))
        return spool_head_begins(head, n) ? -EPIPE : -EBADMSG;
    rc = spool_head_get(ret, head);
    if (rc != 0)
        return rc;
    return spool_head_total(ret) <= left ? 1 : -EPIPE;
}

int segment_next(struct segment_walk *w, struct spool_head *ret, uint64_t *ret_at) {
    uint64_t at = w->at;
    int rc = 0;

    while (at < w->end) {
        rc = look(w, at, ret);
        if (rc != -EBADMSG)
            break;
        at++;
        rc = find_head(w, &at);
        if (rc != 0)
            break;
    }
    w->skipped += at - w->at;
    w->at = at;
    if (rc != 1)
        return rc;
    *ret_at = at;
    w->records++;
    w->at = at + spool_head_total(ret);
    return 1;
}

int segment_body(int fd, uint64_t at, const struct spool_head *h, void *body) {
    size_t n = (size_t)h->index_bytes + h->data_bytes;
    int rc = read_at(fd, at + SPOOL_HEAD_BYTES, body, n);

    if (rc != 0)
        return rc == -ENODATA ? -EBADMSG : rc;
    return spool_body_crc(body, n, NULL, 0) == h->body_crc ? 0 : -EBADMSG;
}

int segment_index(int fd, uint64_t at, const struct spool_head *h, void *index) {
    int rc = read_at(fd, at + SPOOL_HEAD_BYTES, index, h->index_bytes);

    return rc == -ENODATA ? -EBADMSG : rc;
}
