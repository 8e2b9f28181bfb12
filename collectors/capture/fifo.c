/* fifo.c - see fifo.h. The reader is there before the name is known, so that a writer never waits for one. fifo(7). */
#include "collectors/capture/fifo.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIPE_BYTES                                                                                 \
    (1024 *                                                                                        \
     1024) /* fewer switches between the two; refused beyond a user's quota, then it is 64 KiB */

int fifo_make(int dirfd, const char *name, uid_t uid, int *ret_fd) {
    int fd, rc;

    if (mkfifoat(dirfd, name, 0600) != 0)
        return -errno;
    fd = openat(dirfd, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        rc = -errno;
        goto out;
    }
    if (geteuid() == 0 && uid != 0 && fchown(fd, uid, (gid_t)-1) != 0) {
        rc = -errno;
        goto out;
    }
    (void)fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES); /* faster, no more */
    *ret_fd = fd;
    return 0;
out:
    if (fd >= 0)
        (void)close(fd);            /* nothing was read */
    (void)unlinkat(dirfd, name, 0); /* it is ours and nobody knows it */
    return rc;
}
