/* A directory: the file is renamed into it, or copied where it lies on another file system (temporary name, hash, rename). File,
 * directory and every directory that had to be made are synced before it is called stored. Nothing outside the directory is ever
 * touched: components are plain names, and a symlink among them is refused.
 *
 * All of it in a worker thread. Cancelled: what is under way ends first, it takes no network. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/stores/sigv4.h"
#include "uploader/stores/store_impl.h"

#define DIR_MODE  0700
#define FILE_MODE 0600
#define DIR_BYTES 480 /* of its name */

struct dir {
    struct store base;
    uv_work_t work;
    bool own; /* the default one, below the data directory: nobody else's */
    int rc;
    char why[STORE_ERROR_BYTES];
};

/* --- worker thread ------------------------------------------------------------------------------ */

static int complain(struct dir *d, const char *what, int rc) {
    (void)snprintf(d->why, sizeof(d->why), "%.20s %.280s: %.80s", what, d->base.dir, strerror(-rc));
    return rc;
}

/* One directory down; made where it is not there. Takes `at`. */
static int descend(int at, const char *name) {
    bool made = mkdirat(at, name, DIR_MODE) == 0;
    int fd = made || errno == EEXIST
                 ? openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                 : -1;
    int rc = fd >= 0 ? fd : -errno;

    if (fd >= 0 && made && fsync(at) != 0) {
        rc = -errno;
        close(fd);
    }
    close(at);
    return rc;
}

static int open_root(struct dir *d) {
    char path[DIR_BYTES];
    int rc, at;

    if (d->own)
        return fs_private_dir(d->base.dir, DIR_MODE, d->why, sizeof(d->why));
    at = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    rc = at >= 0 ? at : -errno;
    /* Somebody chose this path: symlinks in it are his. */
    (void)snprintf(path, sizeof(path), "%s", d->base.dir);
    if (at >= 0 && (rc = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0) {
        close(at);
        return rc;
    }
    for (char *p = path + 1, *next; at >= 0 && *p != '\0'; p = next) {
        next = p + strcspn(p, "/");
        if (*next == '/')
            *next++ = '\0';
        if (*p != '\0')
            at = rc = descend(at, p);
    }
    return rc;
}

/* The directory of s->key; its last component in *ret_name. */
static int open_folder(struct dir *d, const char **ret_name) {
    char part[STORE_NAME_BYTES];
    const char *p = d->base.key;
    int at = open_root(d);

    for (;;) {
        size_t n = strcspn(p, "/");

        if (at < 0)
            return d->why[0] != '\0' ? at : complain(d, "cannot open", at);
        if (p[n] == '\0')
            break;
        (void)text_copy(part, n + 1, p); /* shorter than it: is_safe_key() */
        at = descend(at, part);
        p += n + 1;
    }
    *ret_name = p;
    return at;
}

static int sync_file(int dirfd, const char *name) {
    int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int rc = fd < 0 ? -errno : fsync(fd) == 0 ? 0 : -errno;

    if (fd >= 0)
        close(fd);
    return rc;
}

/* Another file system: a copy under a temporary name, whose hash is looked at. */
static int copy_over(struct dir *d, int to, const char *tmp) {
    struct store *s = &d->base;
    int in = openat(s->dirfd, s->local, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), out = -1, rc;
    char hash[HASH_HEX_BYTES];

    if (in < 0)
        return -errno;
    (void)unlinkat(to, tmp, 0); /* of an attempt that was cut */
    out = openat(to, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
    rc = out < 0 ? -errno : hash_file(in, 0, s->bytes, out, hash);
    if (rc == 0 && strcmp(hash, s->sha256) != 0)
        rc = -ESTALE;
    if (rc == 0 && fsync(out) != 0)
        rc = -errno;
    if (out >= 0 && close(out) != 0 && rc == 0)
        rc = -errno;
    if (rc != 0 && out >= 0)
        (void)unlinkat(to, tmp, 0);
    close(in);
    return rc;
}

/* It is there already, from a run that was killed before it could say so: whole? */
static int look_there(struct dir *d, int to, const char *name) {
    char hash[HASH_HEX_BYTES];
    int fd = openat(to, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    int rc;

    if (fd < 0)
        return -ESTALE;
    rc = fstat(fd, &st) == 0 && (uint64_t)st.st_size == d->base.bytes
             ? hash_file(fd, 0, d->base.bytes, -1, hash)
             : -ESTALE;
    close(fd);
    return rc == 0 && strcmp(hash, d->base.sha256) != 0 ? -ESTALE : rc;
}

static int check_length(const struct store *s) {
    struct stat st;

    if (fstatat(s->dirfd, s->local, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return -errno;
    return S_ISREG(st.st_mode) && (uint64_t)st.st_size == s->bytes ? 0 : -ESTALE;
}

static int bring(struct dir *d, int to, const char *name) {
    struct store *s = &d->base;
    char tmp[STORE_NAME_BYTES + 16];
    int rc = check_length(s);

    if (rc == -ENOENT)
        return look_there(d, to, name);
    if (rc != 0)
        return rc;
    rc = sync_file(s->dirfd, s->local);
    if (rc != 0)
        return rc;
    if (renameat(s->dirfd, s->local, to, name) == 0)
        return 0;
    if (errno != EXDEV)
        return -errno;
    (void)snprintf(tmp, sizeof(tmp), ".%s.new", name);
    rc = copy_over(d, to, tmp);
    if (rc == 0 && renameat(to, tmp, to, name) != 0) {
        rc = -errno;
        (void)unlinkat(to, tmp, 0);
    }
    if (rc == 0)
        (void)unlinkat(s->dirfd, s->local, 0); /* stays: whoever gave it removes it */
    return rc;
}

static void work_put(uv_work_t *work) {
    struct dir *d = container_of(work, struct dir, work);
    const char *name;
    int to = open_folder(d, &name);

    d->rc = to < 0 ? to : bring(d, to, name);
    if (to < 0)
        return;
    if (d->rc == 0 && fsync(to) != 0)
        d->rc = -errno;
    if (d->rc != 0)
        (void)complain(d, "cannot write to", d->rc);
    close(to);
}

static void work_probe(uv_work_t *work) {
    struct dir *d = container_of(work, struct dir, work);
    int at = open_root(d);
    char name[STORE_KEY_BYTES + 2];

    d->rc = at < 0 ? at : 0;
    if (at < 0) {
        if (d->why[0] == '\0')
            (void)complain(d, "cannot open", at);
        return;
    }
    (void)snprintf(name, sizeof(name), ".%s", d->base.key);
    d->rc = fs_write_at(at, name, "", 0, FILE_MODE);
    if (d->rc == 0 && unlinkat(at, name, 0) != 0)
        d->rc = -errno;
    if (d->rc != 0)
        (void)complain(d, "cannot write to", d->rc);
    close(at);
}

/* --- loop thread -------------------------------------------------------------------------------- */

/* Fits: three times the longest name and the longest key. */
static void name_it(struct store *s) {
    (void)text_copy(s->url, sizeof(s->url), "file://");
    (void)sigv4_encode(s->url, sizeof(s->url), s->dir, true);
    (void)sigv4_encode(s->url, sizeof(s->url), s->probing ? "" : "/", true);
    (void)sigv4_encode(s->url, sizeof(s->url), s->probing ? "" : s->key, true);
}

static void on_done(uv_work_t *work, int status) {
    struct dir *d = container_of(work, struct dir, work);
    struct store *s = &d->base;

    if (status != 0) {
        store_finish(s, -ECANCELED, ANSWER_RETRY, -1, "cancelled");
    } else if (d->rc == -ESTALE) {
        store_finish(s, -ESTALE, ANSWER_RETRY, -1,
                     "the local file is gone, or is not what it was when it was made");
    } else if (d->rc != 0) {
        /* A full disk and missing rights can be mended. */
        store_finish(s, -EAGAIN, d->rc == -ENOMEM || d->rc == -EIO ? ANSWER_RETRY : ANSWER_SETTLE,
                     -1, "%s", d->why);
    } else {
        name_it(s);
        s->sent = s->bytes;
        store_finish(s, 0, ANSWER_TAKEN, -1, "%s", "");
    }
}

static void queue(struct store *s, uv_work_cb work) {
    struct dir *d = container_of(s, struct dir, base);
    int rc;

    d->why[0] = '\0';
    rc = uv_queue_work(s->loop, &d->work, work, on_done);
    if (rc != 0)
        store_finish(s, -EAGAIN, ANSWER_RETRY, -1, "no worker thread: %s", strerror(-rc));
}

static void dir_start(struct store *s) {
    queue(s, work_put);
}

static void dir_probe(struct store *s) {
    queue(s, work_probe);
}

static void dir_cancel(struct store *s) {
    /* When it runs already it ends by itself: then the file is in its place, and found there next time. */
    (void)uv_cancel((uv_req_t *)&container_of(s, struct dir, base)->work);
}

static void dir_free(struct store *s) {
    (void)s;
}

static const struct store_ops ops = {
    .local = true,
    .start = dir_start,
    .cancel = dir_cancel,
    .probe = dir_probe,
    .free = dir_free,
};

int store_dir_new(struct store **ret, const char *rest, const struct store_env *env,
                  struct buf *why) {
    char path[DIR_BYTES];
    struct dir *d;
    size_t len;
    int n;

    if (*rest != '\0' && *rest != '/') {
        buf_printf(why, "PILLION_STORE=\"file:%s\": the directory must begin with /", rest);
        return -EINVAL;
    }
    n = *rest != '\0' ? snprintf(path, sizeof(path), "%s", rest)
                      : snprintf(path, sizeof(path), "%s/artifacts", env->data_dir);
    if (n < 0 || (size_t)n >= sizeof(path)) {
        buf_printf(why, "PILLION_STORE: the directory's name has more than %d bytes",
                   DIR_BYTES - 1);
        return -EINVAL;
    }
    for (len = (size_t)n; len > 1 && path[len - 1] == '/'; len--)
        path[len - 1] = '\0';
    d = mem_calloc(1, sizeof(*d));
    if (d == NULL)
        return -ENOMEM;
    d->base.dir = mem_strdup(path);
    if (d->base.dir == NULL) {
        mem_free(d);
        return -ENOMEM;
    }
    d->own = *rest == '\0';
    d->base.ops = &ops;
    (void)snprintf(d->base.name, sizeof(d->base.name), "file:%s", path);
    *ret = &d->base;
    return 0;
}
