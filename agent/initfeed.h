/* initfeed.h - the helper's end of what init tells it on the descriptor named by PILLION_INIT_FD: who was reaped, how much time is
 * left. The lines are described in agent/init/exit_feed.h. Its end means that init is gone, and the helper ends as well. */
#ifndef PILLION_INITFEED_H
#define PILLION_INITFEED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#define INITFEED_LINE_BYTES 128

struct initfeed_callbacks {
    void (*exited)(void *arg, pid_t pid, uint64_t start_ticks, int code, int signal);
    void (*stopping)(void *arg, uint64_t left_ms);
    void (*ended)(void *arg);
};

struct initfeed {
    uv_pipe_t pipe;
    bool open;
    char line[INITFEED_LINE_BYTES];
    size_t len;
    const struct initfeed_callbacks *callbacks;
    void *arg;
};

/* `fd` is taken on success. Lines that are not understood are skipped. */
int initfeed_start(struct initfeed *f, uv_loop_t *loop, int fd,
                   const struct initfeed_callbacks *callbacks, void *arg);
/* Asynchronous; nothing is called any more. Fine when it was never started. */
void initfeed_close(struct initfeed *f);

#endif
