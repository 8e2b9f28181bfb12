#include "agent/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/init/prepare.h"

static int lock(struct rundir *r, const char *path, char *why, size_t why_size) {
    char pid[24];
    int n, rc = 0;

    r->lockfd = openat(r->fd, "helper.lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (r->lockfd < 0) {
        rc = -errno;
        (void)snprintf(why, why_size, "cannot open %s/helper.lock: %s", path, strerror(errno));
        return rc;
    }
    if (flock(r->lockfd, LOCK_EX | LOCK_NB) != 0) {
        rc = errno == EWOULDBLOCK ? -EBUSY : -errno;
        n = (int)read(r->lockfd, pid, sizeof(pid) - 1);
        pid[n > 0 ? n : 0] = '\0';
        pid[strcspn(pid, "\n")] = '\0';
        if (rc == -EBUSY)
            (void)snprintf(why, why_size,
                           "another helper (pid %s) uses %s; one is enough, or give this one a "
                           "PILLION_RUNTIME_DIR of its own",
                           pid[0] != '\0' ? pid : "not known", path);
        else
            (void)snprintf(why, why_size, "cannot lock %s/helper.lock: %s", path, strerror(-rc));
        return rc;
    }
    n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    /* only for people: the lock itself is what counts */
    if (ftruncate(r->lockfd, 0) != 0 || pwrite(r->lockfd, pid, (size_t)n, 0) != n)
        return 0;
    return 0;
}

int rundir_open(struct rundir *ret, const struct config *config, char *why, size_t why_size) {
    struct rundir r = {.fd = -1, .lockfd = -1};
    int rc;

    r.fd = fs_private_dir(config->runtime_dir, prepare_dir_mode(), why, why_size);
    if (r.fd < 0)
        return r.fd;
    rc = lock(&r, config->runtime_dir, why, why_size);
    if (rc != 0) {
        rundir_close(&r);
        return rc;
    }
    *ret = r;
    return 0;
}

void rundir_close(struct rundir *r) {
    if (r->lockfd >= 0)
        close(r->lockfd);
    if (r->fd >= 0)
        close(r->fd);
    *r = (struct rundir){.fd = -1, .lockfd = -1};
}

void rundir_note_error(const struct config *config, const char *line) {
    char why[256];
    int fd;

    if (config->runtime_dir == NULL)
        return;
    fd = fs_private_dir(config->runtime_dir, prepare_dir_mode(), why, sizeof(why));
    if (fd < 0)
        return;
    if (line == NULL)
        (void)unlinkat(fd, "helper.error", 0);
    else
        (void)fs_write_at(fd, "helper.error", line, strlen(line), 0600);
    close(fd);
}
