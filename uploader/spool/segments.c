#include "uploader/spool/segments.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "uploader/spool/fault.h"

#define DIGITS      16
#define ASIDE       "quarantine"
#define ASIDE_TRIES 1000
/* Greater numbers are never reached; a name with one is not ours. */
#define NUMBER_MAX (UINT64_MAX / 2)

void segments_init(struct segments *s) {
    *s = (struct segments){.dirfd = -1};
}

void segments_clear(struct segments *s) {
    mem_free(s->items);
    segments_init(s);
}

static void make_name(char out[SEGMENT_NAME_BYTES], const struct segment *g) {
    (void)snprintf(out, SEGMENT_NAME_BYTES, "%016" PRIx64 "%s", g->first,
                   g->damaged ? ".bad" : ".seg");
}

static bool parse_name(const char *name, struct segment *ret) {
    char again[SEGMENT_NAME_BYTES];

    if (strlen(name) != DIGITS + 4)
        return false;
    *ret = (struct segment){.first = strtoull(name, NULL, 16),
                            .damaged = strcmp(name + DIGITS, ".bad") == 0};
    make_name(again, ret); /* only what we would write */
    return strcmp(again, name) == 0 && ret->first > 0 && ret->first < NUMBER_MAX;
}

/* --- the list --- */

static int add(struct segments *s, const struct segment *g) {
    if (s->n == s->cap) {
        size_t cap = s->cap == 0 ? 16 : s->cap * 2;
        struct segment *items = mem_realloc(s->items, cap * sizeof(*items));

        if (items == NULL)
            return -ENOMEM;
        s->items = items;
        s->cap = cap;
    }
    s->items[s->n] = *g;
    s->items[s->n++].id = ++s->last_id;
    s->bytes += g->bytes;
    return 0;
}

static void take_out(struct segments *s, size_t i) {
    s->bytes -= s->items[i].bytes;
    s->n--;
    memmove(&s->items[i], &s->items[i + 1], (s->n - i) * sizeof(s->items[0]));
}

static int by_number(const void *a, const void *b) {
    const struct segment *x = a, *y = b;

    return x->first < y->first ? -1 : x->first > y->first;
}

static int list_into(struct segments *s, const char *name, const struct stat *st) {
    struct segment g;

    if (!S_ISREG(st->st_mode) || !parse_name(name, &g) || s->n >= 4 * LIMIT_SPOOL_SEGMENTS)
        return 0;
    g.bytes = (uint64_t)st->st_size;
    return add(s, &g);
}

static int count_aside(struct segments *s, const char *name, const struct stat *st) {
    (void)name;
    if (S_ISREG(st->st_mode)) {
        s->aside_files++;
        s->aside_bytes += (uint64_t)st->st_size;
    }
    return 0;
}

static int walk_dir(struct segments *s, const char *name,
                    int (*entry)(struct segments *s, const char *name, const struct stat *st)) {
    int fd = openat(s->dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), rc = 0;
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *e;
    struct stat st;

    if (d == NULL) {
        rc = -errno;
        if (fd >= 0)
            close(fd);
        return rc;
    }
    while (rc == 0 && (e = readdir(d)) != NULL)
        if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            rc = entry(s, e->d_name, &st);
    (void)closedir(d); /* was only read */
    return rc;
}

int segments_list(struct segments *s, int dirfd) {
    int rc;

    s->dirfd = dirfd;
    s->n = 0;
    s->bytes = s->aside_bytes = 0;
    s->aside_files = 0;
    rc = walk_dir(s, ".", list_into);
    if (rc == 0 && s->n > 1)
        qsort(s->items, s->n, sizeof(s->items[0]), by_number);
    /* The same segment under both names: the work of a hand. The second is kept in quarantine. */
    for (size_t i = 0; rc == 0 && i + 1 < s->n;)
        if (s->items[i].first != s->items[i + 1].first)
            i++;
        else if (segments_set_aside(s, i + 1, "there are two of this number") != 0)
            take_out(s, i + 1);
    if (rc == 0)
        (void)walk_dir(s, ASIDE, count_aside); /* there is none in most cases */
    return rc;
}

size_t segments_find(const struct segments *s, uint64_t number) {
    size_t low = 0, high = s->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (s->items[mid].first <= number)
            low = mid + 1;
        else
            high = mid;
    }
    return low > 0 ? low - 1 : 0;
}

void segments_grown(struct segments *s, size_t i, uint64_t bytes) {
    s->bytes += bytes - s->items[i].bytes;
    s->items[i].bytes = bytes;
}

/* --- files --- */

int segments_open(const struct segments *s, size_t i, int how) {
    char name[SEGMENT_NAME_BYTES];
    int fd;

    make_name(name, &s->items[i]);
    fd = openat(s->dirfd, name, how | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return -errno;
    return fd;
}

void segments_mark(struct segments *s, size_t i) {
    char old[SEGMENT_NAME_BYTES], new[SEGMENT_NAME_BYTES];

    if (s->items[i].damaged)
        return;
    make_name(old, &s->items[i]);
    s->items[i].damaged = true;
    make_name(new, &s->items[i]);
    log_warn("spool: something in segment %s is damaged; the rest of it is delivered, then it is "
             "set aside",
             old);
    if (renameat(s->dirfd, old, s->dirfd, new) != 0)
        s->items[i].damaged = false; /* found again next time */
}

/* A name in quarantine that is not taken. Only we write there, by the lock on the spool. */
static int aside_name(const struct segments *s, const char *name, char *out, size_t size) {
    struct stat st;

    if (mkdirat(s->dirfd, ASIDE, 0700) != 0 && errno != EEXIST)
        return -errno;
    for (unsigned n = 0; n < ASIDE_TRIES; n++) {
        (void)snprintf(out, size, n == 0 ? ASIDE "/%s" : ASIDE "/%s.%u", name, n);
        if (fstatat(s->dirfd, out, &st, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT)
            return 0;
    }
    return -EEXIST;
}

/* Something that is none of ours stands where the next segment belongs. */
static void clear_way(struct segments *s, const char *name) {
    char aside[2 * SEGMENT_NAME_BYTES];

    if (aside_name(s, name, aside, sizeof(aside)) != 0 ||
        renameat(s->dirfd, name, s->dirfd, aside) != 0)
        return; /* creating it fails again, and that is told */
    counter_add(COUNTER_SPOOL_SET_ASIDE, 1);
    log_warn("spool: %s stood in the way and is set aside in " ASIDE "/", name);
}

static int create_file(struct segments *s, const char *name) {
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(s->dirfd, name, flags, 0600);

    if (fd < 0 && errno == EEXIST) {
        clear_way(s, name);
        fd = openat(s->dirfd, name, flags, 0600);
    }
    if (fd < 0)
        return -errno;
    return fd;
}

int segments_create(struct segments *s, uint64_t first) {
    struct segment g = {.first = first};
    char name[SEGMENT_NAME_BYTES];
    int fd, rc;

    make_name(name, &g);
    rc = add(s, &g);
    if (rc != 0)
        return rc;
    fd = rc = create_file(s, name);
    if (fd < 0)
        goto out;
    FAULT("segment-created");
    if (fsync(s->dirfd) != 0) {
        rc = -errno;
        (void)close(fd); /* is empty */
        (void)unlinkat(s->dirfd, name, 0);
        goto out;
    }
    FAULT("segment-durable");
    return fd;
out:
    s->n--;
    return rc;
}

int segments_set_aside(struct segments *s, size_t i, const char *why) {
    char name[SEGMENT_NAME_BYTES], aside[2 * SEGMENT_NAME_BYTES];
    int rc;

    make_name(name, &s->items[i]);
    rc = aside_name(s, name, aside, sizeof(aside));
    FAULT("setting-aside");
    if (rc == 0 && renameat(s->dirfd, name, s->dirfd, aside) != 0)
        rc = -errno;
    FAULT("set-aside");
    if (rc != 0 && rc != -ENOENT)
        return rc;
    if (rc == 0) {
        s->aside_files++;
        s->aside_bytes += s->items[i].bytes;
        counter_add(COUNTER_SPOOL_SET_ASIDE, 1);
        log_warn("spool: segment %s set aside in " ASIDE "/: %s", name, why);
    }
    take_out(s, i);
    return 0;
}

int segments_remove(struct segments *s, size_t i) {
    char name[SEGMENT_NAME_BYTES];

    if (s->items[i].damaged)
        return segments_set_aside(s, i, "it was damaged; what could be read is delivered");
    make_name(name, &s->items[i]);
    if (unlinkat(s->dirfd, name, 0) != 0 && errno != ENOENT)
        return -errno;
    FAULT("segment-unlinked");
    take_out(s, i);
    return 0;
}

void segments_keep(struct segments *s, const char *name) {
    char aside[2 * SEGMENT_NAME_BYTES];
    int rc = aside_name(s, name, aside, sizeof(aside));

    if (rc == 0 && linkat(s->dirfd, name, s->dirfd, aside, 0) != 0)
        rc = -errno;
    if (rc == -EPERM || rc == -EOPNOTSUPP ||
        rc == -EMLINK) /* no links here: then without the original */
        rc = renameat(s->dirfd, name, s->dirfd, aside) == 0 ? 0 : -errno;
    if (rc == 0)
        counter_add(COUNTER_SPOOL_SET_ASIDE, 1);
    log_warn("spool: %s was damaged%s", name, rc == 0 ? " and is set aside in " ASIDE "/" : "");
}
