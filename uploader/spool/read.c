/* Reading: record by record, segment by segment, over whatever is damaged. A number that is missing between two
 * records, or at the end of a segment, is a record that was lost. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "uploader/spool/spool_impl.h"

void spool_cursor_init(struct spool_cursor *c, uint64_t next) {
    *c = (struct spool_cursor){.next = next, .walk.fd = -1};
}

static void leave(struct spool_cursor *c) {
    if (c->walk.fd >= 0)
        (void)close(c->walk.fd); /* was only read */
    c->walk.fd = -1;
    c->segment = 0;
}

void spool_cursor_clear(struct spool_cursor *c) {
    leave(c);
}

void spool_damage(struct spool *s, size_t i, uint64_t at, uint64_t records) {
    struct segment *g = &s->segments.items[i];

    if (at >= g->bad_to) /* the first sink that comes by counts */
        counter_add(COUNTER_SPOOL_DAMAGED, records);
    if (at >= g->bad_to)
        g->bad_to = at + 1;
    segments_mark(&s->segments, i);
}

static int enter(struct spool *s, struct spool_cursor *c, size_t i) {
    const struct segment *g = &s->segments.items[i];
    int fd;

    if (c->segment == g->id) {
        c->walk.end = g->bytes;
        return 0;
    }
    fd = segments_open(&s->segments, i, O_RDONLY);
    if (fd < 0)
        return fd;
    leave(c);
    c->segment = g->id;
    c->walk = (struct segment_walk){.fd = fd, .end = g->bytes};
    return 0;
}

/* The body of a record that was found; -EBADMSG when it is damaged. */
static int take_body(const struct segment_walk *w, uint64_t at, const struct spool_head *h,
                     struct spool_found *ret) {
    size_t n = (size_t)h->index_bytes + h->data_bytes;
    int rc;

    ret->head = *h;
    ret->body = mem_alloc(n > 0 ? n : 1);
    if (ret->body == NULL)
        return -ENOMEM;
    rc = segment_body(w->fd, at, h, ret->body);
    if (rc != 0) {
        mem_free(ret->body);
        ret->body = NULL;
    }
    return rc;
}

/* The wanted record in segment i: 1; 0 it is not in this one. */
static int read_here(struct spool *s, struct spool_cursor *c, size_t i, struct spool_found *ret) {
    struct spool_head h;
    uint64_t at = 0, before;
    int rc;

    for (;;) {
        before = c->walk.at;
        rc = segment_next(&c->walk, &h, &at);
        if (rc == 0 && c->walk.at > before && i + 1 == s->segments.n)
            spool_damage(s, i, before, 1); /* the last record; its number is given again */
        if (rc != 1)
            break;
        if (h.number < c->next)
            continue;
        if (h.number > c->next && at > before) /* something stood before it that was none */
            spool_damage(s, i, before, h.number - c->next);
        rc = take_body(&c->walk, at, &h, ret);
        if (rc == -ENOMEM) {
            c->walk.at = at;
            return rc;
        }
        c->next = h.number + 1;
        if (rc == 0)
            return 1;
        spool_damage(s, i, at, 1); /* also an error of the disk at just this place */
    }
    return rc;
}

/* Behind the last record of a segment that has a successor. */
static int end_of(struct spool *s, struct spool_cursor *c, size_t i, int rc) {
    uint64_t follows = s->segments.items[i + 1].first;

    if (rc != 0 || c->walk.skipped > 0 || c->next < follows)
        spool_damage(s, i, c->walk.end, follows > c->next ? follows - c->next : 0);
    leave(c);
    if (c->next < follows)
        c->next = follows;
    return 0;
}

/* A file in which nothing is a record of ours. */
static bool set_aside(struct spool *s, struct spool_cursor *c, size_t i, int rc) {
    const char *why = rc == -EPROTONOSUPPORT ? "its format is newer than this program"
                                             : "there is no record in it";

    if (spool_is_written(s, i))
        return false;
    if (rc != -EPROTONOSUPPORT && c->walk.records > 0)
        return false;
    if (segments_set_aside(&s->segments, i, why) != 0)
        return false;
    leave(c);
    return true;
}

int spool_read(struct spool *s, struct spool_cursor *c, struct spool_found *ret) {
    while (s->segments.n > 0) {
        size_t i = segments_find(&s->segments, c->next);
        int rc;

        if (s->segments.items[i].first > c->next)
            c->next =
                s->segments.items[i].first; /* what was before has been dropped, or was set aside */
        rc = enter(s, c, i);
        if (rc == -ENOENT) { /* somebody removed it */
            (void)segments_remove(&s->segments, i);
            continue;
        }
        if (rc == 0)
            rc = read_here(s, c, i, ret);
        if (rc == 1 || rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE)
            return rc;
        if (set_aside(s, c, i, rc))
            continue;
        if (i + 1 == s->segments.n)
            return 0;
        (void)end_of(s, c, i, rc);
    }
    return 0;
}

uint64_t spool_bytes_ahead(const struct spool *s, uint64_t next) {
    size_t here = segments_find(&s->segments, next);
    uint64_t bytes = 0, behind, records;

    if (s->segments.n == 0 || next >= s->next)
        return 0;
    for (size_t i = here + 1; i < s->segments.n; i++)
        bytes += s->segments.items[i].bytes;
    behind = here + 1 < s->segments.n ? s->segments.items[here + 1].first : s->next;
    records = behind - s->segments.items[here].first;
    if (next < s->segments.items[here].first)
        return bytes + s->segments.items[here].bytes;
    if (records > 0 && next < behind) /* as if all were of one size */
        bytes += s->segments.items[here].bytes * (behind - next) / records;
    return bytes;
}
