/* fifo.h - one FIFO in the runtime directory, made by us, written by a worker. */
#ifndef PILLION_CAPTURE_FIFO_H
#define PILLION_CAPTURE_FIFO_H

#include <sys/types.h>

/* Makes `name` in dirfd, 0600 and uid's own, and opens its read end without blocking: whoever opens it for writing finds a reader. */
int fifo_make(int dirfd, const char *name, uid_t uid, int *ret_fd);

#endif
