/* exit_record.h - what is left to say when the application has ended: a line of JSON in <data dir>/exit.json, and one for people
 * when something went wrong that the application cannot have said itself.
 *
 *   {"time":…,"app_pid":…,"code":n|null,"signal":n|null,"oom_kills":n|null,"peak_rss_bytes":…,"helper_restarts":n,
 *    "last_signal_received":n|null}
 *
 * oom_kills: processes of this container that the kernel killed for memory while we ran; null: not known. peak_rss_bytes: of the
 * largest process that ended. */
#ifndef PILLION_INIT_EXIT_RECORD_H
#define PILLION_INIT_EXIT_RECORD_H

#include <stdint.h>
#include <sys/types.h>

#include "agent/base/buf.h"

struct exit_record {
    int64_t wall_ms;
    pid_t app_pid;
    int code, sig;     /* sig 0: it exited with code */
    int64_t oom_kills; /* -1: not known */
    uint64_t peak_rss_bytes;
    unsigned helper_restarts;
    int last_signal; /* 0: none */
};

/* oom_kill of memory.events (v2) or memory.oom_control (v1) of our cgroup, or -1. `root` as in own_cgroup.h. */
int64_t exit_record_oom_kills(const char *root);
void exit_record_format(const struct exit_record *r, struct buf *out);
/* Best effort: the volume may be full or read-only. */
void exit_record_write(const struct exit_record *r, const char *data_dir);
/* Says it when a signal ended the application that nobody sent through us, or the kernel killed for memory. */
void exit_record_say(const struct exit_record *r);

#endif
