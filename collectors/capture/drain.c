/* drain.c - takes out of a FIFO at full speed what a worker writes into it.
 *
 * A FIFO that nobody has opened for writing yet is silent for poll(); it hangs up when the last writer has closed it. The pipe is
 * never left full for the sake of anything behind it: what comes goes through zlib to the disk on this thread. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/mem.h"
#include "collectors/capture/job.h"

#define READ_BYTES    65536
#define SUMMARY_BYTES (16 * 1024 * 1024)

int drain_fifo(struct capture_job *j, int over_fd) {
    struct pollfd fds[3] = {{.fd = j->fifo_fd, .events = POLLIN},
                            {.fd = j->cancel_fd, .events = POLLIN},
                            {.fd = over_fd, .events = POLLIN}};
    bool over = false;
    char *piece = mem_alloc(READ_BYTES);
    int rc = piece != NULL ? 0 : -ENOMEM;

    while (rc == 0) {
        ssize_t n;

        if (poll(fds, 3, over ? 0 : -1) < 0) {
            rc = errno == EINTR ? 0 : -errno;
            continue;
        }
        if (fds[1].revents != 0) {
            rc = -ECANCELED;
            break;
        }
        if (fds[2].revents != 0) {
            over = true;
            fds[2].fd = -1;
        }
        n = read(j->fifo_fd, piece, READ_BYTES);
        if (n == 0 && (over || fds[0].revents != 0))
            break;
        if (n > 0)
            rc = output_push(j->out, piece, (size_t)n);
        else if (n < 0 && errno == EAGAIN && over)
            break; /* somebody else holds the other end: what was written is here */
        else if (n < 0 && errno != EAGAIN && errno != EINTR)
            rc = -errno;
    }
    mem_free(piece);
    return rc;
}

int job_end(struct capture_job *j, char why[256]) {
    struct buf text;
    int rc = output_end(j->out, why);

    if (rc != 0 || j->order.action != CAPTURE_HEAP_SNAPSHOT)
        return rc;
    buf_init(&text, SUMMARY_BYTES);
    output_summary(j->out, 0, &text);
    rc = text.err;
    if (rc == 0)
        rc = output_file(&j->summary, j->work_fd, j->summary_name, OUTPUT_JSON);
    if (rc == 0)
        rc = output_push(j->summary, text.data, text.len);
    if (rc == 0)
        rc = output_end(j->summary, why);
    buf_clear(&text);
    return rc;
}

void job_drain(struct capture_job *j) {
    char why[256] = "";
    int rc = drain_fifo(j, -1);

    j->at_end = rc == 0;
    /* What failed in the output is told better by its end. */
    if (rc != -ECANCELED && rc != -ENOMEM)
        rc = job_end(j, why);
    j->rc = rc;
    (void)snprintf(j->reason, sizeof(j->reason), "%s",
                   why[0] != '\0' ? why
                   : rc != 0      ? strerror(-rc)
                                  : "");
}
