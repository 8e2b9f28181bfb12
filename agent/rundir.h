/* rundir.h - the directory that the helper, its workers and its users meet in: lock, sockets, preload file, last mistake.
 *
 *   workers.sock  status.sock   0600, for our user and root
 *   preload.js    master.js     0644; written before the application starts
 *   helper.lock                 held by the one helper of this directory; its pid stands in it
 *   helper.error                why the last helper did not start; `pillion status` repeats it */
#ifndef PILLION_RUNDIR_H
#define PILLION_RUNDIR_H

#include <stddef.h>
#include <sys/types.h>

#include "agent/config.h"

struct rundir {
    int fd;     /* the directory; -1 when not open */
    int lockfd; /* -1 when not held */
};

/* Opens (and makes) the directory and takes the lock. -EBUSY: another helper has it; any other negative errno: it cannot be
 * used. The reason is in `why`. */
int rundir_open(struct rundir *ret, const struct config *config, char *why, size_t why_size);
void rundir_close(struct rundir *r);

/* Keeps `line` for `pillion status`, or takes the last one away (NULL). Best effort: the directory itself may be the mistake. */
void rundir_note_error(const struct config *config, const char *line);

#endif
