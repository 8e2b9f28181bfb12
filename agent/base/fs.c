#include "agent/base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

ssize_t fs_read_at(int dirfd, const char *path, char *out, size_t size) {
    int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    ssize_t n, total = 0;

    if (fd < 0)
        return -errno;
    do { /* seq_file gives a page at a time */
        n = read(fd, out + total, size - 1 - (size_t)total);
        if (n < 0)
            total = -errno;
        else
            total += n;
    } while (n > 0 && (size_t)total < size - 1);
    close(fd);
    if (total >= 0)
        out[total] = '\0';
    return total;
}

int fs_write_all(int fd, const void *data, size_t len) {
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int fs_write_at(int dirfd, const char *name, const void *data, size_t len, mode_t mode) {
    char tmp[NAME_MAX + 1];
    int fd, rc;

    if (snprintf(tmp, sizeof(tmp), ".%s.%ld", name, (long)getpid()) >= (int)sizeof(tmp))
        return -ENAMETOOLONG;
    (void)unlinkat(dirfd, tmp, 0); /* left by a process that had our pid */
    fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return -errno;
    rc = fs_write_all(fd, data, len);
    if (rc == 0 && fchmod(fd, mode) != 0)
        rc = -errno;
    if (close(fd) != 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && renameat(dirfd, tmp, dirfd, name) != 0)
        rc = -errno;
    if (rc != 0)
        (void)unlinkat(dirfd, tmp, 0);
    return rc;
}

static int make_parents(const char *path) {
    char part[PATH_MAX];
    size_t len = strlen(path);

    if (len >= sizeof(part))
        return -ENAMETOOLONG;
    for (size_t i = 1; i < len; i++) {
        if (path[i] != '/' || path[i + 1] == '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0755) != 0 && errno != EEXIST)
            return -errno;
    }
    return 0;
}

/* Unknown counts as not empty. */
static bool is_empty(int dirfd) {
    int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *e;
    int n = 0;

    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    while ((e = readdir(dir)) != NULL)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
             strcmp(e->d_name, "lost+found") != 0;
    closedir(dir);
    return n == 0;
}

static int check_private(int fd, mode_t mode, const char *path, char *why, size_t why_size) {
    struct stat st;

    if (fstat(fd, &st) != 0)
        return -errno;
    if (st.st_uid != geteuid()) {
        (void)snprintf(why, why_size, "%s belongs to uid %lu, not to us (uid %lu)", path,
                       (unsigned long)st.st_uid, (unsigned long)geteuid());
        return -EPERM;
    }
    if ((st.st_mode & 022) != 0) {
        (void)snprintf(why, why_size, "%s can be written to by others (mode %04o; wanted %04o)",
                       path, (unsigned)st.st_mode & 07777u, (unsigned)mode);
        return -EPERM;
    }
    if ((st.st_mode & 077 & ~mode) != 0 && !is_empty(fd)) {
        (void)snprintf(why, why_size,
                       "%s is open to others (mode %04o; wanted %04o) and not empty: "
                       "a directory of our own is wanted there",
                       path, (unsigned)st.st_mode & 07777u, (unsigned)mode);
        return -ENOTEMPTY;
    }
    if ((st.st_mode & 07777) != mode && fchmod(fd, mode) != 0) {
        (void)snprintf(why, why_size, "%s: cannot set mode %04o: %s", path, (unsigned)mode,
                       strerror(errno));
        return -errno;
    }
    return 0;
}

static int open_dir(const char *path, char *why, size_t why_size) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), rc;
    struct stat st;

    if (fd >= 0)
        return fd;
    rc = -errno;
    if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
        rc = -ELOOP; /* with O_DIRECTORY the kernel says ENOTDIR */
    if (rc == -ELOOP)
        (void)snprintf(why, why_size,
                       "%s is a symbolic link; a real directory of our own is wanted there", path);
    else if (rc == -ENOTDIR)
        (void)snprintf(why, why_size, "%s is not a directory", path);
    else
        (void)snprintf(why, why_size, "cannot open %s: %s", path, strerror(-rc));
    return rc;
}

int fs_private_dir(const char *path, mode_t mode, char *why, size_t why_size) {
    char plain[PATH_MAX];
    int fd, rc = text_copy(plain, sizeof(plain), path) ? 0 : -ENAMETOOLONG;
    size_t len = strlen(plain);

    /* Behind a slash the kernel follows a symlink whatever O_NOFOLLOW says. */
    while (len > 1 && plain[len - 1] == '/')
        plain[--len] = '\0';
    if (rc == 0)
        rc = make_parents(plain);
    if (rc == 0 && mkdir(plain, mode) != 0 && errno != EEXIST)
        rc = -errno;
    if (rc != 0) {
        (void)snprintf(why, why_size, "cannot make %s: %s", plain, strerror(-rc));
        return rc;
    }
    fd = open_dir(plain, why, why_size);
    if (fd < 0)
        return fd;
    rc = check_private(fd, mode, plain, why, why_size);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    return fd;
}
