/* All went well: send -> on_work (worker thread: open, write) -> on_worked -> done(TAKEN).
 * It fails in on_work, with a text: on_worked -> done(RETRY).
 *
 * While a send is under way everything below `work` belongs to the worker thread, else to the
 * loop. */
#include "uploader/sinks/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/sinks/dir.h"

#define ERROR_BYTES 512

struct file_sink {
    struct sink base;
    uv_loop_t *loop;
    char *path;
    uv_work_t work;
    struct batch *batch;
    int dirfd;       /* -1: to be opened (again) */
    int fd;          /* the file that is written to; -1 none */
    uint64_t good;   /* its bytes: whole members */
    unsigned number; /* of the last file */
    bool mended;     /* what earlier boots left */
    char name[SINK_DIR_NAME_BYTES];
    char boot[SINK_DIR_BOOT + 1];
    int rc;
    char error[ERROR_BYTES];
};

static void close_fd(int *fd) {
    if (*fd >= 0)
        (void)close(*fd); /* what was written was checked when it was written */
    *fd = -1;
}

/* A file without a batch would be an error to gzip. */
static void close_file(struct file_sink *f) {
    if (f->fd >= 0 && f->good == 0)
        (void)unlinkat(f->dirfd, f->name, 0); /* may be gone already */
    close_fd(&f->fd);
}

static int fail(struct file_sink *f, const char *what, int rc) {
    (void)snprintf(f->error, sizeof(f->error), "cannot %s %s%s%s: %s", what, f->path,
                   f->name[0] != '\0' ? "/" : "", f->name, strerror(-rc));
    return rc;
}

/* A directory that a person made keeps its mode. */
static int open_dir(struct file_sink *f) {
    struct stat st;
    mode_t mode = 0700;
    int fd;

    if (stat(f->path, &st) == 0 && S_ISDIR(st.st_mode))
        mode = st.st_mode & 07777;
    f->error[0] = '\0';
    fd = fs_private_dir(f->path, mode, f->error, sizeof(f->error));
    if (fd < 0)
        return f->error[0] != '\0' ? fd : fail(f, "open", fd);
    f->dirfd = fd;
    return 0;
}

/* Is the open file still there, whole, and with room for the batch? */
static bool is_usable(const struct file_sink *f) {
    struct stat st;

    if (f->fd < 0 || fstat(f->fd, &st) != 0 || st.st_nlink == 0 || (uint64_t)st.st_size != f->good)
        return false;
    return f->good == 0 || f->good + f->batch->len <= LIMIT_SINK_FILE_BYTES;
}

static int create_file(struct file_sink *f) {
    uint64_t more = f->batch->len > LIMIT_SINK_FILE_BYTES ? f->batch->len : LIMIT_SINK_FILE_BYTES;

    if (!f->mended) {
        unsigned n = sink_dir_mend(f->dirfd, f->boot);

        f->mended = true;
        if (n > 0)
            log_info("%s: took away the cut ends of %u files that a killed helper left", f->path,
                     n);
    }
    counter_add(COUNTER_SINK_FILES_REMOVED, sink_dir_make_room(f->dirfd, f->boot, more));
    sink_dir_name(f->name, clock_wall_ms(), f->boot, f->number + 1);
    f->fd = openat(f->dirfd, f->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (f->fd < 0)
        return -errno;
    (void)flock(f->fd,
                LOCK_EX | LOCK_NB); /* a file system without locks: nobody mends there either */
    f->number++;
    f->good = 0;
    return 0;
}

static int ensure_file(struct file_sink *f) {
    int rc = -ENOENT;

    if (is_usable(f))
        return 0;
    close_file(f);
    if (f->dirfd >= 0)
        rc = create_file(f);
    if (rc == -ENOENT) { /* nothing there yet, or the directory was removed */
        close_fd(&f->dirfd);
        f->name[0] = '\0';
        rc = open_dir(f);
        if (rc != 0)
            return rc; /* the text is there */
        rc = create_file(f);
    }
    return rc == 0 ? 0 : fail(f, "make", rc);
}

static int write_batch(struct file_sink *f) {
    size_t done = 0;

    while (done < f->batch->len) {
        ssize_t n =
            pwrite(f->fd, f->batch->data + done, f->batch->len - done, (off_t)(f->good + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int rc = n < 0 ? -errno : -EIO;

            fail(f, "write to", rc);
            /* When even that fails the file is left to the next start; too large (ulimit -f) is too
             * large for ever. */
            if (ftruncate(f->fd, (off_t)f->good) != 0 || rc == -EFBIG)
                close_file(f);
            return rc;
        }
        done += (size_t)n;
    }
    f->good += f->batch->len;
    return 0;
}

static void on_work(uv_work_t *w) {
    struct file_sink *f = container_of(w, struct file_sink, work);

    f->rc = ensure_file(f);
    if (f->rc == 0)
        f->rc = write_batch(f);
}

static void on_worked(uv_work_t *w, int status) {
    struct file_sink *f = container_of(w, struct file_sink, work);
    struct sink_result r = {.verdict = SINK_TAKEN};

    (void)status; /* is never cancelled */
    if (f->rc != 0) {
        r.verdict = SINK_RETRY;
        r.error = f->error;
    }
    batch_unref(f->batch);
    f->batch = NULL;
    f->base.done(f->base.done_arg, &r);
}

static void file_send(struct sink *s, struct batch *b) {
    struct file_sink *f = container_of(s, struct file_sink, base);

    f->batch = batch_ref(b);
    (void)uv_queue_work(f->loop, &f->work, on_work, on_worked); /* fails without a callback only */
}

static void file_free(struct sink *s) {
    struct file_sink *f = container_of(s, struct file_sink, base);

    close_file(f);
    close_fd(&f->dirfd);
    mem_free(f->path);
    mem_free(f->base.name);
    mem_free(f);
}

static const struct sink_ops file_ops = {
    .retry_min_ms = 1000,
    .retry_max_ms = 4000,
    .send = file_send,
    .free = file_free,
};

static int set_path(struct file_sink *f, const char *data_dir, const char *rest) {
    struct buf b;
    int rc;

    buf_init(&b, PATH_MAX + sizeof("file:"));
    buf_puts(&b, "file:");
    if (rest[0] != '\0')
        buf_puts(&b, rest);
    else
        buf_printf(&b, "%s/batches", data_dir);
    rc = b.err;
    while (rc == 0 && b.len > sizeof("file:/") - 1 && b.data[b.len - 1] == '/')
        b.data[--b.len] = '\0';
    if (rc == 0)
        f->path = mem_strdup(b.data + sizeof("file:") - 1);
    if (rc == 0 && f->path == NULL)
        rc = -ENOMEM;
    if (rc == 0)
        f->base.name = buf_take(&b, NULL);
    buf_clear(&b);
    return rc;
}

/* What can pass by itself. */
static bool is_passing(int rc) {
    return rc == -ENOSPC || rc == -EDQUOT || rc == -EROFS || rc == -EIO || rc == -EMFILE ||
           rc == -ENFILE || rc == -ESTALE;
}

int sink_file_new(struct sink **ret, const struct sink_env *env, const char *rest,
                  struct buf *why) {
    struct file_sink *f;
    int rc;

    if (rest[0] != '\0' && rest[0] != '/') {
        buf_printf(why, "PILLION_SINK: \"file:%.200s\" is not an absolute path", rest);
        return -EINVAL;
    }
    f = mem_calloc(1, sizeof(*f));
    if (f == NULL)
        return -ENOMEM;
    f->base.ops = &file_ops;
    f->loop = env->loop;
    f->dirfd = f->fd = -1;
    (void)text_copy(f->boot, sizeof(f->boot), env->boot); /* is meant to cut */
    rc = set_path(f, env->data_dir, rest);
    if (rc == -ENOBUFS)
        buf_puts(why, "PILLION_SINK: the path of file: is too long");
    if (rc == 0) {
        rc = open_dir(f);
        if (is_passing(rc)) {
            log_warn("sink \"%s\": %s; tried again with each batch", f->base.name, f->error);
            rc = 0;
        } else if (rc != 0) {
            buf_printf(why, "PILLION_SINK: %s%s", f->error,
                       rc == -EPERM ? "; name a directory inside it, it will be made" : "");
        }
    }
    if (rc != 0) {
        file_free(&f->base);
        return rc == -ENOMEM ? rc : -EINVAL;
    }
    *ret = &f->base;
    return 0;
}
