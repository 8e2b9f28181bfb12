#include "agent/init/exit_feed.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>

#include "agent/base/mem.h"

#define LINE_BYTES 96

int exit_feed_open(struct exit_feed *f) {
    int fds[2];

    *f = (struct exit_feed){.readfd = -1, .writefd = -1};
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return -errno;
    f->readfd = fds[0];
    f->writefd = fds[1];
    return 0;
}

void exit_feed_close(struct exit_feed *f) {
    if (f->readfd >= 0)
        close(f->readfd);
    if (f->writefd >= 0)
        close(f->writefd);
    *f = (struct exit_feed){.readfd = -1, .writefd = -1};
}

/* A line is far below PIPE_BUF: whole or not at all. */
static void put(struct exit_feed *f, const char *line, int n) {
    if (f->writefd >= 0)
        f->full = write(f->writefd, line, (size_t)n) < 0;
}

void exit_feed_exit(struct exit_feed *f, pid_t pid, uint64_t start_ticks, int code, int sig) {
    char line[LINE_BYTES];

    put(f, line,
        snprintf(line, sizeof(line), "exit %ld %" PRIu64 " %d %d\n", (long)pid, start_ticks, code,
                 sig));
}

void exit_feed_stop(struct exit_feed *f, uint64_t left_ms) {
    char line[LINE_BYTES];

    put(f, line, snprintf(line, sizeof(line), "stop %" PRIu64 "\n", left_ms));
}
