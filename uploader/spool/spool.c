/* All went well: append -> make_room -> begin_segment -> write_record. Later sync, step by step the sinks' positions,
 * and trim.
 * The disk says no: the write is taken back, the segment given up if even that fails; the caller tries again.
 * fsync says no: spool_rewind(), and the caller writes the same records into a new segment.
 * Full: make_room() takes the oldest segment and counts what it held, by sink and by worker. */
#include "uploader/spool/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent/base/counters.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "uploader/spool/fault.h"
#include "uploader/spool/spool_impl.h"

#define DROPS_EVERY_MS 10000

int spool_new(struct spool **ret, const char *path, uint64_t max_bytes) {
    struct spool *s = mem_calloc(1, sizeof(*s));

    if (s == NULL)
        return -ENOMEM;
    s->path = mem_strdup(path);
    if (s->path == NULL) {
        mem_free(s);
        return -ENOMEM;
    }
    s->max_bytes = max_bytes;
    s->dirfd = s->fd = -1;
    segments_init(&s->segments);
    positions_init(&s->positions);
    spool_tallies_init(&s->workers, LIMIT_SPOOL_WORKERS);
    spool_tallies_init(&s->dropped_workers, LIMIT_SPOOL_DROPPED_WORKERS);
    buf_init(&s->index, SPOOL_INDEX_MAX);
    *ret = s;
    return 0;
}

void spool_free(struct spool *s) {
    if (s == NULL)
        return;
    if (s->fd >= 0)
        (void)close(s->fd); /* what mattered was synced */
    if (s->dirfd >= 0)
        (void)close(s->dirfd);
    segments_clear(&s->segments);
    positions_clear(&s->positions);
    spool_tallies_clear(&s->workers);
    spool_tallies_clear(&s->dropped_workers);
    buf_clear(&s->index);
    mem_free(s->path);
    mem_free(s);
}

int spool_claim(struct spool *s, const char *sink) {
    return positions_claim(&s->positions, sink);
}

bool spool_is_open(const struct spool *s) {
    return s->dirfd >= 0;
}

/* --- open --- */

static void learn(void *arg, const struct spool_worker *w) {
    struct spool *s = arg;
    struct spool_tally *t = spool_tallies_get(&s->workers, w->id);

    if (t != NULL && w->last > t->number) /* without memory a sample may come twice */
        t->number = w->last;
}

struct probe {
    uint64_t last;    /* number of the last good record; 0 none */
    uint64_t records; /* good ones */
    bool cut, newer;
    uint64_t cut_at;
};

/* Heads of one segment, and what they say of the workers. */
static int probe_segment(struct spool *s, size_t i, struct probe *ret) {
    struct segment_walk w = {.fd = segments_open(&s->segments, i, O_RDONLY),
                             .end = s->segments.items[i].bytes};
    struct spool_head h;
    uint64_t at;
    int rc;

    *ret = (struct probe){.last = 0};
    if (w.fd < 0)
        return w.fd;
    if (w.end > LIMIT_SPOOL_PROBE_BYTES)
        w.end = LIMIT_SPOOL_PROBE_BYTES;
    while ((rc = segment_next(&w, &h, &at)) == 1) {
        ret->records++;
        ret->last = h.number > ret->last ? h.number : ret->last;
        buf_reset(&s->index);
        if (buf_reserve(&s->index, h.index_bytes) == 0 &&
            segment_index(w.fd, at, &h, s->index.data) == 0)
            (void)spool_index_walk(s->index.data, h.index_bytes, h.needs, learn,
                                   s); /* as far as it goes */
        s->index.err = 0;
    }
    if (w.skipped > 0 && ret->records > 0)
        segments_mark(&s->segments, i);
    ret->newer = rc == -EPROTONOSUPPORT;
    ret->cut = rc == -EPIPE && w.end == s->segments.items[i].bytes;
    ret->cut_at = w.at;
    (void)close(w.fd);
    return rc == -EPIPE || rc == -EPROTONOSUPPORT ? 0 : rc;
}

static void cut_tail(struct spool *s, size_t i, uint64_t at) {
    int fd = segments_open(&s->segments, i, O_WRONLY), rc = fd;

    if (fd >= 0) {
        rc = ftruncate(fd, (off_t)at) == 0 ? 0 : -errno;
        (void)close(fd);
    }
    FAULT("tail-cut");
    if (rc != 0)
        return; /* whoever reads it stops there as well */
    counter_add(COUNTER_SPOOL_TAILS_CUT, 1);
    log_info(
        "spool: a half-written record of %llu bytes was cut off; nobody was told that it was kept",
        (unsigned long long)(s->segments.items[i].bytes - at));
    segments_grown(&s->segments, i, at);
}

/* From the newest back: two segments with records tell the last number and the workers. A file without any is set
 * aside, so that it does not decide how we number. */
static int probe(struct spool *s) {
    unsigned good = 0, looked = 0;
    struct probe p;

    for (size_t i = s->segments.n; i > 0 && good < 2 && looked < LIMIT_SPOOL_PROBES; looked++) {
        int rc = probe_segment(s, --i, &p);

        if (rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM)
            return rc;
        if (p.newer || p.records == 0) {
            (void)segments_set_aside(&s->segments, i, /* else it is tried again when it is read */
                                     p.newer ? "its format is newer than this program"
                                             : "there is no record in it");
            continue;
        }
        if (good++ == 0) {
            s->next = p.last + 1;
            if (p.cut)
                cut_tail(s, i, p.cut_at);
        }
    }
    if (s->segments.n > 0 && s->segments.items[s->segments.n - 1].first >= s->next)
        s->next = s->segments.items[s->segments.n - 1].first + 1;
    return 0;
}

static void place_sinks(struct spool *s) {
    uint64_t first = s->segments.n > 0 ? s->segments.items[0].first : s->next;

    for (unsigned i = 0; i < s->positions.n; i++)
        if (s->positions.items[i].active && s->positions.items[i].next < first)
            s->positions.items[i].next = first; /* a sink that is new gets what is left */
}

static int take_lock(struct spool *s, int fd, char *why, size_t why_size) {
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return 0; /* a file system without locks: then without */
    (void)snprintf(why, why_size, "another helper uses %s; give each its own PILLION_DATA_DIR",
                   s->path);
    return -EBUSY;
}

static int read_directory(struct spool *s, int fd) {
    bool damaged = false;
    int rc = segments_list(&s->segments, fd);

    if (rc == 0)
        rc = positions_load(&s->positions, fd, &damaged);
    if (damaged)
        segments_keep(&s->segments, "positions");
    s->next = 1;
    if (rc == 0)
        rc = probe(s);
    if (rc == 0 && positions_greatest(&s->positions) > s->next)
        s->next = positions_greatest(&s->positions);
    if (rc == 0)
        place_sinks(s);
    s->durable = s->next;
    return rc;
}

int spool_open(struct spool *s, char *why, size_t why_size) {
    int fd, rc;

    if (s->dirfd >= 0)
        return 0;
    why[0] = '\0';
    fd = fs_private_dir(s->path, 0700, why, why_size);
    if (fd < 0)
        return fd;
    rc = take_lock(s, fd, why, why_size);
    if (rc == 0)
        rc = read_directory(s, fd);
    if (rc != 0) {
        if (why[0] == '\0')
            (void)snprintf(why, why_size, "cannot read %s: %s", s->path, strerror(-rc));
        (void)close(fd);
        return rc;
    }
    s->dirfd = fd;
    return 0;
}

uint64_t spool_last_sample(const struct spool *s, const char *worker) {
    const struct spool_tally *t = spool_tallies_find((struct spool_tallies *)(uintptr_t)&s->workers,
                                                     worker); /* moves its hint */

    return t != NULL ? t->number : 0;
}

int spool_copy_workers(const struct spool *s, struct spool_tallies *ret) {
    return spool_tallies_copy(ret, &s->workers);
}

/* --- room --- */

static void count_dropped(void *arg, const struct spool_worker *w) {
    struct spool *s = arg;
    struct spool_tally *t = w->count > 0 ? spool_tallies_get(&s->dropped_workers, w->id) : NULL;

    s->dropped_samples += w->count;
    counter_add(COUNTER_SPOOL_SAMPLES_DROPPED, w->count);
    if (t != NULL)
        t->number += w->count;
}

/* What goes with a segment: batches by sink, samples by worker. */
static void count_segment(struct spool *s, size_t i) {
    struct segment_walk w = {.fd = segments_open(&s->segments, i, O_RDONLY),
                             .end = s->segments.items[i].bytes};
    uint64_t least = positions_least(&s->positions), at, batches = 0;
    struct spool_head h;

    while (w.fd >= 0 && segment_next(&w, &h, &at) == 1) {
        if (h.number < least)
            continue;
        batches++;
        for (unsigned k = 0; k < s->positions.n; k++)
            s->dropped[k] += s->positions.items[k].active && s->positions.items[k].next <= h.number;
        buf_reset(&s->index);
        if (buf_reserve(&s->index, h.index_bytes) == 0 &&
            segment_index(w.fd, at, &h, s->index.data) == 0)
            (void)spool_index_walk(s->index.data, h.index_bytes, h.needs, count_dropped,
                                   s); /* as far as it goes */
        s->index.err = 0;
    }
    if (w.fd >= 0)
        (void)close(w.fd);
    counter_add(COUNTER_BATCHES_DROPPED, batches);
    if (batches > 0 && log_due(&s->drops_warned, DROPS_EVERY_MS))
        log_warn("spool: %llu batches dropped, the oldest ones: it holds %llu MiB already",
                 (unsigned long long)batches, (unsigned long long)(s->max_bytes >> 20));
}

static void end_segment(struct spool *s) {
    if (s->fd >= 0)
        (void)close(s->fd); /* synced, or given up */
    s->fd = -1;
}

static int drop_oldest(struct spool *s) {
    if (spool_is_written(s, 0))
        end_segment(s);
    FAULT("dropping-oldest");
    count_segment(s, 0);
    return segments_remove(&s->segments, 0);
}

/* What was set aside counts as well, up to half of the spool. */
static uint64_t used_bytes(const struct spool *s) {
    uint64_t aside = s->segments.aside_bytes;

    return s->segments.bytes + s->positions.bytes +
           (aside < s->max_bytes / 2 ? aside : s->max_bytes / 2);
}

static int make_room(struct spool *s, uint64_t more) {
    int rc = 0;

    while (rc == 0 && s->segments.n > 0 &&
           (used_bytes(s) + more > s->max_bytes || s->segments.n > LIMIT_SPOOL_SEGMENTS))
        rc = drop_oldest(s);
    return rc;
}

static uint64_t segment_bytes(const struct spool *s) {
    uint64_t n = s->max_bytes / 16;

    return n < LIMIT_SPOOL_SEGMENT_LEAST_BYTES  ? LIMIT_SPOOL_SEGMENT_LEAST_BYTES
           : n > LIMIT_SPOOL_SEGMENT_MOST_BYTES ? LIMIT_SPOOL_SEGMENT_MOST_BYTES
                                                : n;
}

/* --- write --- */

static int begin_segment(struct spool *s, uint64_t number) {
    int fd = segments_create(&s->segments, number);

    if (fd < 0)
        return fd;
    s->fd = fd;
    return 0;
}

/* Entries of the workers that are not in this record, so that the newest segment alone knows them all. */
static void add_others(struct spool *s) {
    spool_tallies_forget(&s->workers, LIMIT_SPOOL_WORKER_MS);
    for (size_t i = 0; i < s->workers.n; i++)
        spool_index_add(&s->index, s->workers.items[i].id, s->workers.items[i].number, 0);
}

static int make_index(struct spool *s, const struct spool_entry *e, bool first) {
    buf_reset(&s->index);
    s->index.err = 0;
    (void)buf_reserve(&s->index, 1);                                         /* never NULL */
    (void)spool_index_walk(e->index, e->index_len, SPOOL_VERSION, learn, s); /* is ours */
    if (first)
        add_others(s);
    buf_add(&s->index, e->index, e->index_len);
    return s->index.err;
}

static int write_all(int fd, struct iovec *v, int n, uint64_t at) {
    while (n > 0) {
        ssize_t k = pwritev(fd, v, n, (off_t)at);

        if (k < 0 && errno == EINTR)
            continue;
        if (k <= 0)
            return k < 0 ? -errno : -ENOSPC;
        at += (uint64_t)k;
        for (; n > 0 && (size_t)k >= v->iov_len; v++, n--)
            k -= (ssize_t)v->iov_len;
        if (n > 0) {
            v->iov_base = (char *)v->iov_base + k;
            v->iov_len -= (size_t)k;
        }
    }
    return 0;
}

static int write_record(struct spool *s, const struct spool_entry *e, uint64_t number) {
    struct spool_head h = {.version = SPOOL_VERSION,
                           .needs = e->form == SPOOL_GZIP ? 1 : 2,
                           .form = (uint8_t)e->form,
                           .index_bytes = (uint32_t)s->index.len,
                           .data_bytes = (uint32_t)e->len,
                           .number = number,
                           .seq = e->seq,
                           .time_ms = e->time_ms,
                           .records = e->records,
                           .raw_bytes = e->raw_bytes};
    unsigned char head[SPOOL_HEAD_BYTES];
    struct iovec v[3] = {{head, sizeof(head)},
                         {s->index.data, s->index.len},
                         {(void *)(uintptr_t)e->data, e->len}}; /* writev's type lacks the const */
    uint64_t at = s->segments.items[s->segments.n - 1].bytes;
    int rc;

    memcpy(h.boot, e->boot, sizeof(h.boot));
    h.body_crc = spool_body_crc(s->index.data, s->index.len, e->data, e->len);
    spool_head_put(&h, head);
#ifdef PILLION_FAULTS
    if (pwrite(s->fd, head, sizeof(head) / 2, (off_t)at) > 0)
        FAULT("head-half");
    if (pwrite(s->fd, head, sizeof(head), (off_t)at) > 0 &&
        pwrite(s->fd, e->data, e->len / 2, (off_t)(at + sizeof(head))) > 0)
        FAULT("record-half");
#endif
    rc = write_all(s->fd, v, 3, at);
    if (rc != 0) {
        if (ftruncate(s->fd, (off_t)at) != 0)
            end_segment(s); /* the next start, or whoever reads it, stops there */
        return rc;
    }
    FAULT("record-written");
    segments_grown(&s->segments, s->segments.n - 1, at + spool_head_total(&h));
    counter_add(COUNTER_SPOOL_BYTES_WRITTEN, spool_head_total(&h));
    return 0;
}

/* Full segments are made durable before the next one begins: then only the last one can be lost in part. */
static int roll(struct spool *s, uint64_t more) {
    const struct segment *last = s->segments.n > 0 ? &s->segments.items[s->segments.n - 1] : NULL;

    if (s->fd < 0 || last->bytes == 0 || last->bytes + more <= segment_bytes(s))
        return 0;
    if (s->durable < s->next && fdatasync(s->fd) != 0)
        return -EUCLEAN;
    s->durable = s->next;
    FAULT("segment-full");
    end_segment(s);
    return 0;
}

int spool_append(struct spool *s, const struct spool_entry *e, uint64_t *ret_number) {
    uint64_t number = e->number > 0 ? e->number : s->next;
    uint64_t more = SPOOL_HEAD_BYTES + e->index_len + e->len;
    bool first;
    int rc = roll(s, more);

    if (rc == 0)
        rc = make_room(s, more);
    first = s->fd < 0 || s->segments.items[s->segments.n - 1].bytes == 0;
    if (rc == 0)
        rc = make_index(s, e, first);
    if (rc == 0 && s->fd < 0)
        rc = begin_segment(s, number);
    if (rc == 0)
        rc = write_record(s, e, number);
    if (rc != 0)
        return rc;
    s->next = number + 1;
    *ret_number = number;
    return 0;
}

/* --- durable --- */

int spool_sync_take(struct spool *s, int fds[2], uint64_t *ret_up_to) {
    fds[0] = s->fd >= 0 && s->durable < s->next ? fcntl(s->fd, F_DUPFD_CLOEXEC, 3) : -1;
    fds[1] = !s->positions.synced && s->positions.fd >= 0
                 ? fcntl(s->positions.fd, F_DUPFD_CLOEXEC, 3)
                 : -1;
    *ret_up_to = s->next;
    s->taken_steps = s->positions.steps;
    return fds[0] >= 0 || fds[1] >= 0;
}

void spool_synced(struct spool *s, uint64_t up_to) {
    counter_add(COUNTER_SPOOL_SYNCS, 1);
    if (up_to > s->durable)
        s->durable = up_to;
    if (s->taken_steps == s->positions.steps && !s->positions.rewrite)
        s->positions.synced = true;
}

void spool_rewind(struct spool *s, uint64_t from) {
    size_t last = s->segments.n - 1;
    struct segment_walk w;
    struct spool_head h;
    uint64_t at, keep = 0;

    counter_add(COUNTER_SPOOL_SYNCS_FAILED, 1);
    s->positions.rewrite = true;
    if (from < s->durable)
        from = s->durable;
    if (s->fd < 0)
        return;
    if (from >= s->next) {
        end_segment(s);
        return;
    }
    /* How far those before `from` go, as the heads say. */
    w = (struct segment_walk){.fd = segments_open(&s->segments, last, O_RDONLY),
                              .end = s->segments.items[last].bytes};
    while (w.fd >= 0 && segment_next(&w, &h, &at) == 1 && h.number < from)
        keep = w.at;
    if (w.fd >= 0)
        (void)close(w.fd);
    if (ftruncate(s->fd, (off_t)keep) != 0)
        log_debug("spool: %s",
                  strerror(errno)); /* readers pass over what they have by its number */
    end_segment(s);
    s->next = s->durable = from;
    if (keep == 0)
        (void)segments_remove(&s->segments, last); /* its name is needed again */
    else
        segments_grown(&s->segments, last, keep);
}

int spool_sync(struct spool *s) {
    int rc = 0;

    if (s->fd >= 0 && s->durable < s->next && fdatasync(s->fd) != 0)
        rc = -errno;
    if (rc == 0)
        rc = positions_sync(&s->positions, s->dirfd);
    if (rc == 0)
        spool_synced(s, s->next);
    return rc;
}

int spool_step(struct spool *s, int place, uint64_t next) {
    return positions_step(&s->positions, s->dirfd, place, next);
}

uint64_t spool_position(const struct spool *s, int place) {
    return s->positions.items[place].next;
}

int spool_trim(struct spool *s) {
    uint64_t least = positions_least(&s->positions);
    bool synced = false;
    int rc = 0;

    while (rc == 0 && s->segments.n > 1 && s->segments.items[1].first <= least) {
        if (!synced)
            rc = positions_sync(&s->positions, s->dirfd);
        synced = true;
        if (rc == 0) {
            FAULT("before-delete");
            rc = segments_remove(&s->segments, 0);
        }
    }
    return rc;
}

/* --- telling --- */

void spool_look(const struct spool *s, struct spool_view *ret) {
    *ret = (struct spool_view){
        .open = s->dirfd >= 0,
        .first = s->segments.n > 0 ? s->segments.items[0].first : 0,
        .next = s->next,
        .bytes = s->segments.bytes + s->positions.bytes,
        .max_bytes = s->max_bytes,
        .segments = (unsigned)s->segments.n,
        .aside_bytes = s->segments.aside_bytes,
        .aside_files = s->segments.aside_files,
    };
}

uint64_t spool_dropped(const struct spool *s, int place) {
    return s->dropped[place];
}

uint64_t spool_dropped_samples(const struct spool *s) {
    return s->dropped_samples;
}

void spool_dropped_json(const struct spool *s, struct buf *out) {
    uint64_t listed = 0;

    buf_putc(out, '{');
    for (size_t i = 0; i < s->dropped_workers.n; i++) {
        listed += s->dropped_workers.items[i].number;
        buf_puts(out, i > 0 ? "," : "");
        buf_json_string(out, s->dropped_workers.items[i].id);
        buf_putc(out, ':');
        buf_u64(out, s->dropped_workers.items[i].number);
    }
    if (s->dropped_samples > listed)
        buf_printf(out, "%s\"others\":%llu", s->dropped_workers.n > 0 ? "," : "",
                   (unsigned long long)(s->dropped_samples - listed));
    buf_putc(out, '}');
}
