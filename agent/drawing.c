#include "agent/drawing.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "collectors/flamegraph/flamegraph.h"
#include "uploader/stores/hash.h"

#define NAME_BYTES  256
#define TITLE_BYTES 256
#define WHY_BYTES   256

struct drawing {
    uv_work_t work;
    int work_fd;
    char name[NAME_BYTES], drawn[NAME_BYTES], title[TITLE_BYTES], why[WHY_BYTES];
    struct capture_file file;
    int rc;
    drawing_done_cb done;
    void *arg;
};

static int draw(struct drawing *d, int in, int out) {
    struct flamegraph_options options = {
        .format = FLAMEGRAPH_HTML, .title = d->title, .base_fd = -1};
    struct stat st;
    int rc = flamegraph_make(in, out, &options, d->why);

    if (rc == 0 && (fstat(out, &st) != 0 || lseek(out, 0, SEEK_SET) != 0))
        rc = -errno;
    if (rc != 0)
        return rc;
    d->file.bytes = (uint64_t)st.st_size;
    return hash_file(out, 0, d->file.bytes, -1, d->file.sha256);
}

static void work(uv_work_t *w) {
    struct drawing *d = container_of(w, struct drawing, work);
    int in = openat(d->work_fd, d->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), out = -1;

    d->rc = in >= 0 ? 0 : -errno;
    if (d->rc == 0) {
        out =
            openat(d->work_fd, d->drawn, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        d->rc = out >= 0 ? draw(d, in, out) : -errno;
    }
    if (in >= 0)
        (void)close(in); /* was only read */
    if (out >= 0 && close(out) != 0 && d->rc == 0)
        d->rc = -errno;
    if (d->rc != 0)
        (void)unlinkat(d->work_fd, d->drawn, 0); /* it may not be there */
    (void)unlinkat(d->work_fd, d->name, 0);
    if (d->rc != 0 && d->why[0] == '\0')
        (void)snprintf(d->why, sizeof(d->why), "%s", strerror(-d->rc));
}

static void on_worked(uv_work_t *w, int status) {
    struct drawing *d = container_of(w, struct drawing, work);

    (void)status; /* nobody cancels it */
    d->done(d->arg, d->rc == 0 ? &d->file : NULL, d->why);
    mem_free(d);
}

int drawing_make(uv_loop_t *loop, int work_fd, const char *name, const char *title,
                 drawing_done_cb done, void *arg) {
    struct drawing *d = mem_calloc(1, sizeof(*d));
    int rc;

    if (d == NULL)
        return -ENOMEM;
    d->work_fd = work_fd;
    d->done = done;
    d->arg = arg;
    d->file = (struct capture_file){.kind = "flamegraph", .extension = "html", .name = d->drawn};
    rc = text_copy(d->name, sizeof(d->name), name) &&
                 snprintf(d->drawn, sizeof(d->drawn), "%s.html", name) < (int)sizeof(d->drawn)
             ? 0
             : -ENAMETOOLONG;
    (void)text_copy(d->title, sizeof(d->title), title);
    if (rc == 0)
        rc = uv_queue_work(loop, &d->work, work, on_worked);
    if (rc != 0)
        mem_free(d);
    return rc;
}
