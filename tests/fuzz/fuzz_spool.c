/* The walk over a segment of the spool that a crash, a bad disk or another program left behind: it ends, its records lie
 * within the file behind each other, and what it passes over is counted to the byte. The first byte says what is tried: a
 * segment, or an index alone. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "uploader/spool/segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_worker(void *arg, const struct spool_worker *w) {
    size_t *n = arg;

    assert(strlen(w->id) < SPOOL_ID_BYTES);
    ++*n;
}

static void walk_index(const uint8_t *data, size_t size) {
    size_t n = 0;
    int rc = spool_index_walk(data, size, 1, on_worker, &n);

    assert(rc == 0 || rc == -EBADMSG);
    assert(n * 20 <= size);
}

static void walk_segment(int fd, size_t size) {
    struct segment_walk w = {.fd = fd, .end = size};
    uint64_t at = 0, before = 0, whole = 0;
    struct spool_head h;
    int rc;

    while ((rc = segment_next(&w, &h, &at)) == 1) {
        char *body = malloc((size_t)h.index_bytes + h.data_bytes + 1);

        assert(at >= before && w.at == at + spool_head_total(&h) && w.at <= size);
        before = w.at;
        whole += spool_head_total(&h);
        if (body != NULL && segment_body(fd, at, &h, body) == 0)
            walk_index((uint8_t *)body, h.index_bytes);
        free(body);
    }
    assert(rc == 0 || rc == -EPIPE || rc == -EPROTONOSUPPORT);
    assert(rc != 0 || w.at == size);
    assert(whole + w.skipped == w.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int fd;

    if (size == 0)
        return 0;
    if ((data[0] & 1) != 0) {
        walk_index(data + 1, size - 1);
        return 0;
    }
    fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd >= 0 && write(fd, data + 1, size - 1) == (ssize_t)(size - 1))
        walk_segment(fd, size - 1);
    if (fd >= 0)
        close(fd);
    return 0;
}
