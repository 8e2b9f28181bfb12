/* attach.h - takes on a Node.js process that was started without us, through its inspector signal, and lets it go again.
 *
 * Blocks for seconds: for a command of its own, not for the loop thread. */
#ifndef PILLION_ATTACH_H
#define PILLION_ATTACH_H

#include <stdbool.h>
#include <sys/types.h>

/* Makes process `pid` load the file `preload` (absolute, readable for it), or, with `detach`, stop what it loaded from there. The
 * inspector is closed again in either case. 0; -EALREADY (detach) there is nothing of ours in it; -ENOTSUP it is no Node.js, has no
 * handler for the signal or another loopback; -EAGAIN its inspector did not open; -EIO it refused; with the reason in `why` (256). */
int attach_process(int proc_fd, pid_t pid, const char *preload, bool detach, char *why);

#endif
