/* spawn.h - the two kinds of children. Both return after exec has succeeded or failed. */
#ifndef PILLION_INIT_SPAWN_H
#define PILLION_INIT_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "agent/init/signals.h"

/* The application: a process group of its own, in the foreground if we are, everything else as we found it. argv[0] is looked up in
 * PATH. Returns 0, or a negative errno: of fork, or of exec with *ret_exec true. */
int spawn_app(pid_t *ret, bool *ret_exec, char *const *argv, char *const *env,
              const struct signals *signals);

/* The helper: /proc/self/exe agent; a process group of its own, /dev/null as input, our output, of our other descriptors only
 * `feed`, which it gets as number 3. `argv` is {"pillion", "agent", NULL}. */
int spawn_helper(pid_t *ret, char *const *argv, char *const *env, int feed);

/* Closes what we inherited beyond standard error: the application has it now, and nobody may wait for us to close it. */
void spawn_close_inherited(void);

#define SPAWN_FEED_FD 3

#endif
