/* unixsocket.h - a listening Unix socket in a private directory, and who is at the other end.
 * unix(7). No loop, no state. */
#ifndef PILLION_UNIXSOCKET_H
#define PILLION_UNIXSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Which file a listening socket is bound to. */
struct unix_file {
    dev_t dev;
    ino_t ino;
};

/* Binds and listens on `name` in directory dirfd, whose full name is `dir`; the file is 0600
 * from its first moment and takes the place of what stands there (a stale socket) in one step.
 * Returns a descriptor (non-blocking, O_CLOEXEC) for the caller to close, or a negative errno.
 * Paths of any length: those that do not fit go through /proc/self/fd. */
int unix_listen(int dirfd, const char *dir, const char *name, struct unix_file *ret);
/* True as long as `name` is that very file. */
bool unix_is_there(int dirfd, const char *name, const struct unix_file *file);
/* Takes the file away, if it is that very file. */
void unix_remove(int dirfd, const char *name, const struct unix_file *file);
/* True when the peer is our own (effective) user or root. */
bool unix_peer_allowed(int fd);

#endif
