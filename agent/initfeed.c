#include "agent/initfeed.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#include "agent/base/mem.h"

/* The lines are cut out of a small fixed buffer: libuv is given what is free behind the unfinished line. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret) {
    struct initfeed *f = handle->data;

    (void)suggested;
    if (f->len == sizeof(f->line)) /* no line is that long: it is not ours */
        f->len = 0;
    *ret = uv_buf_init(f->line + f->len, (unsigned)(sizeof(f->line) - f->len));
}

static void take_line(struct initfeed *f, const char *line) {
    uint64_t n;
    int code, signal;
    long pid;

    if (sscanf(line, "exit %ld %" SCNu64 " %d %d", &pid, &n, &code, &signal) == 4)
        f->callbacks->exited(f->arg, (pid_t)pid, n, code, signal);
    else if (sscanf(line, "stop %" SCNu64, &n) == 1)
        f->callbacks->stopping(f->arg, n);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b) {
    struct initfeed *f = stream->data;
    char *end, *line = f->line;

    (void)b;
    if (n == 0)
        return;
    if (n < 0) {
        (void)uv_read_stop(stream);
        f->callbacks->ended(f->arg);
        return;
    }
    f->len += (size_t)n;
    while ((end = memchr(line, '\n', f->len)) != NULL) {
        *end = '\0';
        f->len -= (size_t)(end + 1 - line);
        take_line(f, line);
        line = end + 1;
    }
    memmove(f->line, line, f->len);
}

int initfeed_start(struct initfeed *f, uv_loop_t *loop, int fd,
                   const struct initfeed_callbacks *callbacks, void *arg) {
    int rc;

    *f = (struct initfeed){.callbacks = callbacks, .arg = arg};
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return -EBADF;
    rc = uv_pipe_init(loop, &f->pipe, 0);
    if (rc != 0)
        return rc;
    f->open = true;
    f->pipe.data = f;
    rc = uv_pipe_open(&f->pipe, fd);
    if (rc == 0)
        rc = uv_read_start((uv_stream_t *)&f->pipe, on_alloc, on_read);
    if (rc != 0)
        initfeed_close(f);
    return rc;
}

void initfeed_close(struct initfeed *f) {
    if (!f->open)
        return;
    f->open = false;
    uv_close((uv_handle_t *)&f->pipe, NULL);
}
