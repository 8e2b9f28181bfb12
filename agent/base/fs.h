/* fs.h - small files and private directories, always relative to a directory descriptor. */
#ifndef PILLION_FS_H
#define PILLION_FS_H

#include <stddef.h>
#include <sys/types.h>

/* Reads at most size - 1 bytes of a /proc, cgroup or other small file and terminates them. Returns the number of bytes, or a
 * negative errno (-ENOENT, -EACCES, -ESRCH, -EOPNOTSUPP …). `dirfd` may be AT_FDCWD. Does not follow a last symlink. */
ssize_t fs_read_at(int dirfd, const char *path, char *out, size_t size);

/* Opens directory `path` for ourselves alone, making it (and missing parents, 0755) with `mode` where it is not there.
 * Returns a descriptor (O_CLOEXEC) for the caller to close, or a negative errno with the reason for people in `why`:
 * -ELOOP a symlink stands there, -ENOTDIR something else does, -EPERM it belongs to another user, or others may write to it,
 * -ENOTEMPTY others may look into it and it has entries already: it is somebody's, and to close it would be to harm them. Of an
 * empty one such permissions are taken away. Slashes at the end of `path` do not count. */
int fs_private_dir(const char *path, mode_t mode, char *why, size_t why_size);

/* Whole or not at all: temporary name in the same directory, write, rename. The mode is set whatever the umask. */
int fs_write_at(int dirfd, const char *name, const void *data, size_t len, mode_t mode);

/* All of it or a negative errno; repeats short writes. For blocking descriptors. */
int fs_write_all(int fd, const void *data, size_t len);

#endif
