/* The list of what is on its way, and the directory that it stands in. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/artifacts_impl.h"

/* --- the list ----------------------------------------------------------------------------------- */

struct artifact_entry *outgoing_add(struct artifacts *a, const char *id, uint64_t bytes,
                                    int64_t time_ms) {
    struct artifact_entry *e = mem_calloc(1, sizeof(*e)), **end = &a->first;

    if (e == NULL)
        return NULL;
    e->owner = a;
    (void)text_copy(e->id, sizeof(e->id), id);
    e->bytes = bytes;
    e->time_ms = time_ms;
    while (*end != NULL)
        end = &(*end)->next;
    *end = e;
    a->n++;
    a->bytes += bytes;
    return e;
}

void outgoing_unlink(struct artifact_entry *e) {
    struct artifacts *a = e->owner;
    struct artifact_entry **p = &a->first;

    while (*p != e)
        p = &(*p)->next;
    *p = e->next;
    e->next = NULL;
    a->n--;
    a->n_parked -= e->parked;
    a->bytes -= e->bytes;
    if (e->syncing)
        e->gone = true;
    else
        mem_free(e);
}

void outgoing_to_the_end(struct artifact_entry *e) {
    struct artifact_entry **p = &e->owner->first;

    while (*p != e)
        p = &(*p)->next;
    *p = e->next;
    e->next = NULL;
    for (p = &e->owner->first; *p != NULL; p = &(*p)->next)
        continue;
    *p = e;
}

void outgoing_name(const struct artifact_entry *e, const char *suffix,
                   char out[OUTGOING_NAME_BYTES]) {
    (void)snprintf(out, OUTGOING_NAME_BYTES, "%.29s%s", e->id, suffix);
}

void outgoing_remove_files(struct artifact_entry *e) {
    struct artifacts *a = e->owner;
    char name[OUTGOING_NAME_BYTES];

    outgoing_name(e, ".bin", name);
    /* Of a directory as store it is in its place already. */
    if (unlinkat(a->dirfd, name, 0) != 0 && errno != ENOENT)
        log_warn("artifacts: cannot remove %s/%s: %s", a->dir, name, strerror(errno));
    outgoing_name(e, ".json", name);
    (void)unlinkat(a->dirfd, name, 0); /* else it is found, and delivered, once more */
}

void outgoing_say_stored(struct artifacts *a, const struct artifact_entry *e,
                         const struct artifact_meta *m, const char *error) {
    if (a->env.stored != NULL)
        a->env.stored(a->env.arg, e->id, m->a.job, m->a.kind, error == NULL ? m->url : NULL, error);
}

/* --- room --------------------------------------------------------------------------------------- */

/* One that is not wanted any more. `why` for people. */
static void drop(struct artifact_entry *e, const char *why) {
    struct artifacts *a = e->owner;
    char key[ARTIFACT_KEY_BYTES];
    struct artifact_meta m;
    bool known = artifact_meta_load(&m, a->dirfd, e->id) == 0;

    if (!e->parked) {
        counter_add(COUNTER_ARTIFACTS_DROPPED, 1);
        log_warn("artifacts: %s of job %s is dropped: %s", known ? m.a.kind : e->id,
                 known ? m.a.job : "?", why);
    }
    outgoing_remove_files(e);
    if (known && artifact_key(&m.a, key, sizeof(key)) == 0)
        store_forget(a->env.store, key);
    if (known && !e->parked && m.url == NULL)
        outgoing_say_stored(a, e, &m, why);
    if (known)
        artifact_meta_clear(&m);
    outgoing_unlink(e);
}

/* The oldest that may go; parked ones only, or all but the newest. */
static struct artifact_entry *oldest(struct artifacts *a, bool parked) {
    struct artifact_entry *least = NULL, *newest = NULL;

    for (struct artifact_entry *e = a->first; e != NULL; e = e->next) {
        if (newest == NULL || e->time_ms >= newest->time_ms)
            newest = e;
        if (e != a->now && (!parked || e->parked) && (least == NULL || e->time_ms < least->time_ms))
            least = e;
    }
    return least != newest || parked ? least : NULL;
}

void outgoing_make_room(struct artifacts *a) {
    int64_t now = clock_wall_ms();
    struct artifact_entry *e;

    while (a->n_parked > LIMIT_ARTIFACTS_PARKED && (e = oldest(a, true)) != NULL)
        drop(e, "too many are parked");
    while (a->env.keep_bytes > 0 && a->bytes > a->env.keep_bytes &&
           ((e = oldest(a, true)) != NULL || (e = oldest(a, false)) != NULL))
        drop(e, "what waits in outgoing is more than PILLION_KEEP says");
    while (a->env.keep_ms > 0 && (e = oldest(a, false)) != NULL && now > e->time_ms &&
           (uint64_t)(now - e->time_ms) > a->env.keep_ms)
        drop(e, "it has waited in outgoing for longer than PILLION_KEEP says");
}

/* --- what an earlier run left ------------------------------------------------------------------- */

static int take_over(struct artifacts *a, const char *id) {
    struct artifact_meta m;
    struct artifact_entry *e;
    int rc = artifact_meta_load(&m, a->dirfd, id);

    if (rc != 0)
        return rc;
    e = outgoing_add(a, id, m.a.bytes, m.a.time_ms);
    if (e != NULL && m.parked != NULL) {
        e->parked = true;
        a->n_parked++;
    }
    artifact_meta_clear(&m);
    return e != NULL ? 0 : -ENOMEM;
}

/* ".<id>.json.<pid>": of a write that was cut. */
static bool is_cut_write(const char *name) {
    char id[ARTIFACT_ID_BYTES], part[OUTGOING_NAME_BYTES];
    size_t len = strlen("x") + 29 + strlen(".json") - 1;

    if (name[0] != '.' || strlen(name) < len + 3 || name[1 + len] != '.')
        return false;
    (void)text_copy(part, len + 1, name + 1);
    return artifact_is_file(part, ".json", id);
}

static int read_all(struct artifacts *a) {
    int fd = openat(a->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *e;
    unsigned foreign = 0;
    char id[ARTIFACT_ID_BYTES], json[OUTGOING_NAME_BYTES];

    if (d == NULL) {
        rc = -errno;
        if (fd >= 0)
            close(fd);
        return rc;
    }
    while (rc == 0 && a->n < LIMIT_ARTIFACTS && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (is_cut_write(e->d_name)) {
            (void)unlinkat(a->dirfd, e->d_name, 0); /* nobody's */
        } else if (artifact_is_file(e->d_name, ".json", id)) {
            rc = take_over(a, id);
            foreign += rc == -EBADMSG || rc == -ENOENT;
            rc = rc == -ENOMEM ? rc : 0;
        } else if (artifact_is_file(e->d_name, ".bin", id)) {
            (void)snprintf(json, sizeof(json), "%s.json", id);
            foreign += faccessat(a->dirfd, json, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
        } else {
            foreign++;
        }
    }
    (void)closedir(d); /* was only read */
    if (foreign > 0)
        log_warn("artifacts: %s has %u files that are not ours or are damaged: left alone", a->dir,
                 foreign);
    return rc;
}

/* Oldest first, as they were added. */
static void sort(struct artifacts *a) {
    struct artifact_entry *sorted = NULL;

    while (a->first != NULL) {
        struct artifact_entry *e = a->first, **p = &sorted;

        a->first = e->next;
        while (*p != NULL && strcmp((*p)->id, e->id) < 0)
            p = &(*p)->next;
        e->next = *p;
        *p = e;
    }
    a->first = sorted;
}

int outgoing_scan(struct artifacts *a) {
    int rc = read_all(a);

    sort(a);
    return rc;
}
