/* All went well: send -> on_work (worker thread: inflate, write lines) -> on_worked -> done(TAKEN).
 * The reader is slow: on_work ends after LIMIT_STDOUT_WRITE_MS -> on_worked -> on_work goes on;
 *     others had their turn on the thread.
 * The reader takes nothing, or is gone: on_worked -> done(RETRY); the next send goes on where it
 *     was.
 *
 * While a send is under way everything below `work` belongs to the worker thread, except for
 * `stop`. */
#include "uploader/sinks/stdout.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <zlib.h>

#include "agent/base/clock.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"

#define CHUNK_BYTES 8192

enum kind {
    KIND_FILE,     /* never waits for a reader: file, /dev/null */
    KIND_OPENED,   /* pipe or terminal that we opened ourselves, not blocking */
    KIND_BLOCKING, /* pipe or terminal that we could not open */
    KIND_SOCKET
};

enum outcome { OUTCOME_ALL, OUTCOME_MORE, OUTCOME_FAILED };

struct stdout_sink {
    struct sink base;
    uv_loop_t *loop;
    int fd;
    enum kind kind;
    atomic_bool stop;
    uv_work_t work;
    struct batch *batch;
    uint64_t seq;      /* of the batch that `written` is about */
    size_t written;    /* bytes of its text that are out */
    bool mid_line;     /* the last byte out was not a newline */
    size_t before;     /* `written` when this turn on the thread began … */
    uint64_t until_ms; /* … and when it ends */
    enum outcome outcome;
    char error[160];
};

/* Waits for room; -EAGAIN when there is none in time. */
static int wait_room(struct stdout_sink *s) {
    uint64_t start = clock_mono_ms();
    struct pollfd p = {.fd = s->fd, .events = POLLOUT};

    if (s->kind == KIND_FILE)
        return 0;
    do { /* short waits, so that `stop` is seen */
        int n = poll(&p, 1, 20);

        if (n > 0)
            return 0; /* an error as well: the write tells which */
        if (n < 0 && errno != EINTR)
            return -errno;
    } while (!atomic_load(&s->stop) && clock_mono_ms() - start < LIMIT_STDOUT_WAIT_MS);
    return -EAGAIN;
}

static ssize_t put(const struct stdout_sink *s, const char *p, size_t n) {
    if (s->kind == KIND_SOCKET)
        return send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    return write(s->fd, p, s->kind == KIND_BLOCKING && n > PIPE_BUF ? PIPE_BUF : n);
}

/* One write, or as many as it takes when the reader takes it in parts. */
static int put_all(struct stdout_sink *s, const char *p, size_t n) {
    while (n > 0) {
        int rc = wait_room(s);
        ssize_t k;

        if (rc != 0)
            return rc;
        k = put(s, p, n);
        if (k < 0 &&
            errno == EAGAIN) { /* room, but less than an atomic write needs: ask again shortly */
            struct timespec pause = {.tv_nsec = 5000000};

            if (atomic_load(&s->stop) || clock_mono_ms() >= s->until_ms)
                return -EAGAIN;
            (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL); /* shorter is fine */
            continue;
        }
        if (k < 0 && errno != EINTR)
            return -errno;
        if (k <= 0)
            continue;
        s->written += (size_t)k;
        s->mid_line = p[k - 1] != '\n';
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

/* As many whole lines as make one write: within PIPE_BUF, or a single longer one. 0: no whole line.
 */
static size_t group(const char *p, size_t n) {
    size_t used = 0;

    while (used < n) {
        const char *end = memchr(p + used, '\n', n - used);
        size_t line;

        if (end == NULL)
            break;
        line = (size_t)(end - (p + used)) + 1;
        if (used > 0 && used + line > PIPE_BUF)
            break;
        used += line;
    }
    return used;
}

static int write_lines(struct stdout_sink *s, struct buf *text) {
    size_t at = 0, n;
    int rc = 0;

    while (rc == 0 && (n = group(text->data + at, text->len - at)) > 0) {
        if (s->written > s->before && (clock_mono_ms() >= s->until_ms || atomic_load(&s->stop)))
            rc = -EINPROGRESS;
        else
            rc = put_all(s, text->data + at, n);
        at += rc == 0 ? n : 0;
    }
    memmove(text->data, text->data + at, text->len - at);
    text->len -= at;
    return rc;
}

static void *z_alloc(void *opaque, unsigned items, unsigned size) {
    (void)opaque;
    return mem_calloc(items, size);
}

static void z_free(void *opaque, void *p) {
    (void)opaque;
    mem_free(p);
}

/* Appends the next piece of text. 1: there is more, 0: that was all. */
static int inflate_some(z_stream *z, struct buf *text) {
    int rc = buf_reserve(text, CHUNK_BYTES);

    if (rc != 0)
        return rc;
    z->next_out = (unsigned char *)text->data + text->len;
    z->avail_out = CHUNK_BYTES;
    rc = inflate(z, Z_NO_FLUSH);
    if (rc != Z_OK && rc != Z_STREAM_END)
        return rc == Z_MEM_ERROR ? -ENOMEM : -EIO;
    text->len += CHUNK_BYTES - z->avail_out;
    return rc == Z_OK ? 1 : 0;
}

/* Forgets what is out already. */
static void skip(struct buf *text, size_t *left) {
    size_t n = *left < text->len ? *left : text->len;

    if (n == 0)
        return;
    memmove(text->data, text->data + n, text->len - n);
    text->len -= n;
    *left -= n;
}

static int write_batch(struct stdout_sink *s) {
    z_stream z = {.zalloc = z_alloc, .zfree = z_free};
    size_t to_skip = s->written;
    struct buf text;
    int rc, more;

    buf_init(&text, LIMIT_RECORD_BYTES + 2 * CHUNK_BYTES);
    z.next_in = (unsigned char *)(uintptr_t)s->batch->data; /* zlib's type lacks the const */
    z.avail_in = (unsigned)s->batch->len;
    rc = inflateInit2(&z, 15 + 16) == Z_OK ? 0 : -ENOMEM;
    while (rc == 0) {
        more = inflate_some(&z, &text);
        if (more >= 0)
            skip(&text, &to_skip);
        rc = more < 0 ? more : write_lines(s, &text);
        if (more == 0)
            break;
    }
    (void)inflateEnd(&z); /* frees */
    buf_clear(&text);
    return rc;
}

/* A line of a batch that was dropped meanwhile. */
static int end_line(struct stdout_sink *s) {
    return s->mid_line ? put_all(s, "\n", 1) : 0;
}

static void on_work(uv_work_t *w) {
    struct stdout_sink *s = container_of(w, struct stdout_sink, work);
    int rc = 0;

    s->before = s->written;
    s->until_ms = clock_mono_ms() + LIMIT_STDOUT_WRITE_MS;
    if (s->seq != s->batch->seq) {
        rc = end_line(s);
        if (rc == 0) {
            s->seq = s->batch->seq;
            s->before = s->written = 0;
        }
    }
    if (rc == 0)
        rc = write_batch(s);
    if (rc == 0)
        s->outcome = OUTCOME_ALL;
    else if ((rc == -EINPROGRESS || rc == -EAGAIN) && s->written > s->before)
        s->outcome = OUTCOME_MORE;
    else
        s->outcome = OUTCOME_FAILED;
    if (rc == -EAGAIN || rc == -EINPROGRESS)
        (void)snprintf(s->error, sizeof(s->error), "nobody reads standard output");
    else if (rc != 0)
        (void)snprintf(s->error, sizeof(s->error), "cannot write to standard output: %s",
                       strerror(-rc));
}

static void on_worked(uv_work_t *w, int status) {
    struct stdout_sink *s = container_of(w, struct stdout_sink, work);
    struct sink_result r = {.verdict = SINK_TAKEN};

    (void)status; /* is never cancelled */
    if (s->outcome == OUTCOME_MORE && !atomic_load(&s->stop)) {
        (void)uv_queue_work(s->loop, &s->work, on_work,
                            on_worked); /* fails without a callback only */
        return;
    }
    if (s->outcome != OUTCOME_ALL) {
        r.verdict = SINK_RETRY;
        r.error = s->error;
    }
    batch_unref(s->batch);
    s->batch = NULL;
    s->base.done(s->base.done_arg, &r);
}

static void stdout_send(struct sink *sink, struct batch *b) {
    struct stdout_sink *s = container_of(sink, struct stdout_sink, base);

    s->batch = batch_ref(b);
    (void)uv_queue_work(s->loop, &s->work, on_work, on_worked); /* fails without a callback only */
}

static void stdout_hurry(struct sink *sink) {
    atomic_store(&container_of(sink, struct stdout_sink, base)->stop, true);
}

static void stdout_free(struct sink *sink) {
    struct stdout_sink *s = container_of(sink, struct stdout_sink, base);

    if (s->kind == KIND_OPENED)
        (void)close(s->fd); /* what was written was checked when it was written */
    mem_free(s->base.name);
    mem_free(s);
}

static const struct sink_ops stdout_ops = {
    .retry_min_ms = 1000,
    .retry_max_ms = 4000,
    .send = stdout_send,
    .hurry = stdout_hurry,
    .free = stdout_free,
};

static void look_at(struct stdout_sink *s, const struct stat *st) {
    char path[32];
    int fd;

    if (S_ISSOCK(st->st_mode)) {
        s->kind = KIND_SOCKET;
    } else if (S_ISFIFO(st->st_mode) || isatty(s->fd)) {
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", s->fd);
        fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        s->kind = fd >= 0 ? KIND_OPENED : KIND_BLOCKING;
        if (fd >= 0)
            s->fd = fd;
    }
}

int sink_stdout_new(struct sink **ret, const struct sink_env *env, const char *rest,
                    struct buf *why) {
    struct stdout_sink *s;
    struct stat st;

    if (rest[0] != '\0') {
        buf_puts(why, "PILLION_SINK: nothing may follow \"stdout:\"");
        return -EINVAL;
    }
    if (fstat(env->stdout_fd, &st) != 0) {
        buf_puts(why, "PILLION_SINK: \"stdout:\" is wanted, but standard output is closed");
        return -EINVAL;
    }
    s = mem_calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->base.ops = &stdout_ops;
    s->base.name = mem_strdup("stdout:");
    s->loop = env->loop;
    s->fd = env->stdout_fd;
    if (s->base.name == NULL) {
        stdout_free(&s->base);
        return -ENOMEM;
    }
    look_at(s, &st);
    *ret = &s->base;
    return 0;
}
