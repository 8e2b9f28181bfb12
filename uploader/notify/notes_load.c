/* What an earlier run left in <data_dir>/notify, before the loop runs. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "agent/base/counters.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/notify/note_file.h"
#include "uploader/notify/notes_private.h"

struct found {
    const char *name;
    int64_t time_ms;
    unsigned needed; /* bits of the file's own list */
    char id[NOTE_ID_BYTES];
    char *text;
    size_t len, body;
    char *targets[LIMIT_NOTIFY_TARGETS];
    unsigned n_targets;
};

/* The file's bits as ours; 0: it is done with. */
static unsigned translate(const struct notes *s, const struct found *f) {
    unsigned ours = 0, all = (1u << f->n_targets) - 1;

    for (unsigned i = 0; i < f->n_targets; i++)
        for (unsigned k = 0; k < s->n_targets && (f->needed & 1u << i) != 0; k++)
            if (strcmp(f->targets[i], s->targets[k]) == 0)
                ours |= 1u << k;
    if (ours == 0 && (f->needed & all) == all)
        ours = (1u << s->n_targets) - 1;
    return ours;
}

static bool same_list(const struct notes *s, const struct found *f) {
    bool same = s->n_targets == f->n_targets;

    for (unsigned i = 0; same && i < s->n_targets; i++)
        same = strcmp(s->targets[i], f->targets[i]) == 0;
    return same;
}

/* The list has changed: so that the bits in the name are always those of the configuration. */
static int write_anew(struct notes *s, const struct found *f, unsigned needed, size_t *ret_bytes) {
    char name[NOTE_FILE_BYTES];
    struct buf text;
    int rc;

    buf_init(&text, NOTE_HEAD_BYTES + LIMIT_NOTIFY_BYTES);
    note_file_head(&text, f->len - f->body, s->targets, s->n_targets);
    buf_add(&text, f->text + f->body, f->len - f->body);
    note_file_name(name, f->time_ms, needed, f->id);
    rc = text.err != 0 ? text.err : note_file_write(s->dirfd, name, text.data, text.len);
    *ret_bytes = text.len;
    buf_clear(&text);
    if (rc == 0 && strcmp(name, f->name) != 0)
        (void)unlinkat(s->dirfd, f->name, 0); /* else it comes again, and is known by its id */
    return rc;
}

static int take(struct notes *s, const struct found *f) {
    unsigned needed = translate(s, f);
    size_t bytes = f->len;
    struct note *n;
    int rc = 0;

    if (needed == 0 || notes_find(s, f->id) != NULL) {
        (void)unlinkat(s->dirfd, f->name, 0); /* as above */
        return 0;
    }
    if (!same_list(s, f))
        rc = write_anew(s, f, needed, &bytes);
    if (rc != 0)
        return rc;
    n = note_new(f->id, f->time_ms, needed, bytes);
    if (n == NULL)
        return -ENOMEM;
    n->synced = true;
    notes_insert(s, n);
    s->count++;
    s->bytes += bytes;
    return 0;
}

/* Only want of memory is an error; what cannot be read now is left where it is. */
static int load_one(struct notes *s, const char *name) {
    struct found f = {.name = name};
    int rc;

    if (text_starts(name, ".new-")) {
        (void)unlinkat(s->dirfd, name, 0); /* half-written, of a run that was killed */
        return 0;
    }
    if (!note_file_parse_name(name, &f.time_ms, &f.needed, f.id))
        return 0;
    rc = note_file_read(s->dirfd, name, &f.text, &f.len);
    if (rc == 0)
        rc = note_file_parse_head(f.text, f.len, f.targets, &f.n_targets, &f.body);
    if (rc == 0)
        rc = take(s, &f);
    while (f.n_targets > 0)
        mem_free(f.targets[--f.n_targets]);
    mem_free(f.text);
    if (rc == 0 || rc == -ENOMEM)
        return rc;
    counter_add(COUNTER_NOTIFY_DAMAGED, 1);
    log_warn("notify: %s cannot be read: %s; it %s", name,
             rc == -EBADMSG ? "it is not a message of ours" : strerror(-rc),
             rc == -EBADMSG ? "is removed" : "is left there");
    if (rc == -EBADMSG)
        (void)unlinkat(s->dirfd, name, 0); /* else it is said again at the next start */
    return 0;
}

static int load(struct notes *s) {
    int fd = openat(s->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;

    if (d == NULL) {
        rc = -errno;
        if (fd >= 0)
            close(fd);
        return rc;
    }
    while (rc == 0 && (e = readdir(d)) != NULL)
        rc = load_one(s, e->d_name);
    (void)closedir(d); /* was only read */
    return rc;
}

void notes_free(struct notes *s) {
    while (s->first != NULL) {
        struct note *n = s->first;

        s->first = n->next;
        note_free(n);
    }
    if (s->dirfd >= 0)
        close(s->dirfd);
    mem_free(s);
}

int notes_new(struct notes **ret, uv_loop_t *loop, const char *data_dir, const char *const *targets,
              unsigned n_targets, void (*ready)(void *arg), void *arg, struct buf *why) {
    struct notes *s = mem_calloc(1, sizeof(*s));
    char path[PATH_MAX], reason[512] = "";
    int rc = 0;

    if (s == NULL)
        return -ENOMEM;
    s->loop = loop;
    s->targets = targets;
    s->n_targets = n_targets;
    s->ready = ready;
    s->arg = arg;
    if (snprintf(path, sizeof(path), "%s/notify", data_dir) >= (int)sizeof(path))
        rc = -ENAMETOOLONG;
    s->dirfd = rc == 0 ? fs_private_dir(path, 0700, reason, sizeof(reason)) : -1;
    if (rc == 0)
        rc = s->dirfd >= 0 ? load(s) : s->dirfd;
    if (rc != 0) {
        buf_printf(why, "notifications cannot be kept: %s",
                   reason[0] != '\0' ? reason : strerror(-rc));
        notes_free(s);
        return rc;
    }
    (void)uv_timer_init(loop, &s->later); /* cannot fail */
    *ret = s;
    return 0;
}
