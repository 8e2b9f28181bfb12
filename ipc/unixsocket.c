#include "ipc/unixsocket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "agent/base/mem.h"

#define BACKLOG 512 /* all workers of a container at once; beyond: connect() says EAGAIN */

/* Bound under a name of its own and renamed: whoever connects meets the old socket or the new
 * one, never none. */
static int bind_new(int fd, int dirfd, const char *dir, const char *name, char *tmp,
                    size_t tmp_size) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};

    if (snprintf(tmp, tmp_size, ".%s.%ld", name, (long)getpid()) >= (int)tmp_size)
        return -ENAMETOOLONG;
    if (snprintf(to.sun_path, sizeof(to.sun_path), "%s/%s", dir, tmp) >= (int)sizeof(to.sun_path) &&
        snprintf(to.sun_path, sizeof(to.sun_path), "/proc/self/fd/%d/%s", dirfd, tmp) >=
            (int)sizeof(to.sun_path))
        return -ENAMETOOLONG;
    (void)unlinkat(dirfd, tmp, 0); /* left by a process that had our pid */
    /* Linux takes the mode of the new file from the socket: it is never open to others, whatever
     * the umask. */
    if (fchmod(fd, 0600) != 0 || bind(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
        return -errno;
    return 0;
}

int unix_listen(int dirfd, const char *dir, const char *name, struct unix_file *ret) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc;
    char tmp[NAME_MAX + 1];
    bool bound = false;
    struct stat st;

    if (fd < 0)
        return -errno;
    rc = bind_new(fd, dirfd, dir, name, tmp, sizeof(tmp));
    if (rc != 0)
        goto out;
    bound = true;
    if (listen(fd, BACKLOG) != 0 || fstatat(dirfd, tmp, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        renameat(dirfd, tmp, dirfd, name) != 0) {
        rc = -errno;
        goto out;
    }
    *ret = (struct unix_file){.dev = st.st_dev, .ino = st.st_ino};
    return fd;
out:
    if (bound)
        (void)unlinkat(dirfd, tmp, 0);
    close(fd);
    return rc;
}

bool unix_is_there(int dirfd, const char *name, const struct unix_file *file) {
    struct stat st;

    return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode) &&
           st.st_dev == file->dev && st.st_ino == file->ino;
}

void unix_remove(int dirfd, const char *name, const struct unix_file *file) {
    if (unix_is_there(dirfd, name, file))
        (void)unlinkat(dirfd, name, 0); /* gone is gone, whoever did it */
}

bool unix_peer_allowed(int fd) {
    struct ucred peer;
    socklen_t len = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
           (peer.uid == geteuid() || peer.uid == 0);
}
