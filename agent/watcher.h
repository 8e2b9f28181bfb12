/* watcher.h - once a second: which loop is blocked, who is gone and why, how near the limits are; and the container's record.
 * Also the samples of those that cannot speak, from outside. Loop thread only. */
#ifndef PILLION_WATCHER_H
#define PILLION_WATCHER_H

#include "agent/pipeline.h"

/* One turn; to be called each watcher_every_ms(). */
void watcher_tick(struct pipeline *p, uint64_t now_ms);
uint64_t watcher_every_ms(const struct config *config);

/* A frame came: the loop turns. */
void watcher_heard(struct ride *r, uint64_t now_ms);
void watcher_disconnected(struct ride *r, uint64_t now_ms);
/* Somebody saw a process end: its parent's preload, or init. start_ticks 0: not known. */
void watcher_exit_told(struct pipeline *p, pid_t pid, uint64_t start_ticks, int code, int signal,
                       bool by_init);

#endif
