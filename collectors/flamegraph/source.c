/* source.c - happy path: source_more() calls read(2), and inflate() when the first bytes were those of gzip (RFC 1952). Several
 * gzip members behind each other are one stream, as gzip(1) takes them. */
#include "collectors/flamegraph/source.h"

#include <errno.h>
#include <zlib.h>

#include "agent/base/mem.h"

#define PACKED_BYTES 65536

struct source {
    int fd;
    void (*progress)(void *arg, uint64_t bytes);
    void *arg;
    uint64_t taken; /* from fd */
    uint64_t offset;
    size_t len;
    bool begun, gzip, inflating, between, end;
    z_stream z;
    unsigned char packed[PACKED_BYTES];
    unsigned char data[SOURCE_WINDOW_BYTES + SOURCE_MARGIN_BYTES];
};

static void *z_alloc(void *opaque, uInt n, uInt size) {
    (void)opaque;
    return mem_calloc(n, size);
}

static void z_release(void *opaque, void *p) {
    (void)opaque;
    mem_free(p);
}

int source_new(struct source **ret, int fd, void (*progress)(void *arg, uint64_t bytes),
               void *arg) {
    struct source *s = mem_calloc(1, sizeof(*s));

    if (s == NULL)
        return -ENOMEM;
    s->fd = fd;
    s->progress = progress;
    s->arg = arg;
    s->z.zalloc = z_alloc;
    s->z.zfree = z_release;
    *ret = s;
    return 0;
}

void source_free(struct source *s) {
    if (s == NULL)
        return;
    if (s->inflating)
        (void)inflateEnd(&s->z);
    mem_free(s);
}

static ssize_t take(struct source *s, unsigned char *to, size_t room) {
    ssize_t n;

    do
        n = read(s->fd, to, room);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    s->taken += (uint64_t)n;
    if (s->progress != NULL)
        s->progress(s->arg, s->taken);
    return n;
}

/* The first bytes decide. A pipe may give them one by one. */
static int begin(struct source *s) {
    ssize_t n;

    while (s->len < 2) {
        n = take(s, s->data + s->len, sizeof(s->packed) - s->len);
        if (n < 0)
            return (int)n;
        if (n == 0)
            break;
        s->len += (size_t)n;
    }
    s->begun = true;
    if (s->len < 2 || s->data[0] != 0x1f || s->data[1] != 0x8b)
        return 0;
    memcpy(s->packed, s->data, s->len);
    s->z.next_in = s->packed;
    s->z.avail_in = (uInt)s->len;
    s->len = 0;
    s->gzip = true;
    if (inflateInit2(&s->z, 15 + 16) != Z_OK)
        return -ENOMEM;
    s->inflating = true;
    return 0;
}

/* One step of inflate(); *ret_n bytes were made, which may be none. */
static int unpack(struct source *s, size_t room, size_t *ret_n) {
    ssize_t n;
    int z;

    *ret_n = 0;
    if (s->z.avail_in == 0) {
        n = take(s, s->packed, sizeof(s->packed));
        if (n < 0)
            return (int)n;
        if (n == 0) {
            s->end = true;
            return s->between ? 0 : -EPIPE;
        }
        s->z.next_in = s->packed;
        s->z.avail_in = (uInt)n;
    }
    if (s->between && inflateReset(&s->z) != Z_OK)
        return -EBADMSG;
    s->between = false;
    s->z.next_out = s->data + s->len;
    s->z.avail_out = (uInt)room;
    z = inflate(&s->z, Z_NO_FLUSH);
    *ret_n = room - s->z.avail_out;
    if (z == Z_STREAM_END)
        s->between = true;
    else if (z == Z_MEM_ERROR)
        return -ENOMEM;
    else if (z != Z_OK && z != Z_BUF_ERROR)
        return -EBADMSG;
    return 0;
}

static int add(struct source *s) {
    size_t before = s->len, room = SOURCE_WINDOW_BYTES - s->len, made;
    ssize_t n;
    int rc;

    if (s->gzip) {
        while (!s->end && s->len == before) {
            rc = unpack(s, room, &made);
            if (rc != 0)
                return rc;
            s->len += made;
        }
        return s->len > before;
    }
    n = take(s, s->data + s->len, room);
    if (n <= 0) {
        s->end = n == 0;
        return (int)n;
    }
    s->len += (size_t)n;
    return 1;
}

int source_more(struct source *s, size_t keep) {
    int rc;

    if (!s->begun) {
        rc = begin(s);
        if (rc != 0 || s->len > 0)
            return rc != 0 ? rc : 1;
        if (!s->gzip)
            return 0;
    }
    if (keep > s->len)
        return -EINVAL;
    if (keep == 0 && s->len == SOURCE_WINDOW_BYTES)
        return s->end ? 0 : -ENOBUFS;
    memmove(s->data, s->data + keep, s->len - keep);
    s->len -= keep;
    s->offset += keep;
    rc = s->end ? 0 : add(s);
    memset(s->data + s->len, 0, SOURCE_MARGIN_BYTES);
    return rc;
}

const unsigned char *source_data(const struct source *s) {
    return s->data;
}

size_t source_len(const struct source *s) {
    return s->len;
}

uint64_t source_offset(const struct source *s) {
    return s->offset;
}

bool source_is_gzip(const struct source *s) {
    return s->gzip;
}
