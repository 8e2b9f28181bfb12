/* exit_feed.h - what init tells the helper: a pipe, one line of text for each process that it reaped.
 *
 *     exit <pid> <start ticks> <code> <signal>\n      code is 0 when a signal ended it, signal is 0 when it exited;
 *                                                     start ticks are field 22 of /proc/<pid>/stat, 0 when not known
 *     stop <ms>\n                                     the application was told to stop; all must be over in so many ms
 *
 * Unknown lines are to be skipped. The pipe outlives the helper: a new one reads what came in the gap. It never blocks: what does
 * not fit into the pipe is dropped. End of file: init is gone. */
#ifndef PILLION_INIT_EXIT_FEED_H
#define PILLION_INIT_EXIT_FEED_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct exit_feed {
    int readfd; /* for the helper; -1 when there is none */
    int writefd;
    bool full; /* nobody reads: do not look things up for nothing */
};

int exit_feed_open(struct exit_feed *f);
void exit_feed_close(struct exit_feed *f);
void exit_feed_exit(struct exit_feed *f, pid_t pid, uint64_t start_ticks, int code, int sig);
void exit_feed_stop(struct exit_feed *f, uint64_t left_ms);

#endif
