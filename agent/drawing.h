/* drawing.h - the flame graph of a profile that was just captured, made by a worker thread. Loop thread only. */
#ifndef PILLION_DRAWING_H
#define PILLION_DRAWING_H

#include <uv.h>

#include "collectors/capture.h"

/* `file`: the finished HTML in work_fd, which is the callee's now; NULL: there is none, for the reason in `why`. From the loop. */
typedef void (*drawing_done_cb)(void *arg, const struct capture_file *file, const char *why);

/* Takes the profile `name` in work_fd, and removes it afterwards in any case. Strings are copied. -ENOMEM. */
int drawing_make(uv_loop_t *loop, int work_fd, const char *name, const char *title,
                 drawing_done_cb done, void *arg);

#endif
