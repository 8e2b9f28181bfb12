/* stdout.h - `stdout:`: batches as plain lines on standard output, for whoever collects the
 * container's log.
 *
 * The same lines as in a batch, header line first, but not compressed: a log is read by line, and
 * gzip in it would be noise. As many whole lines as fit into PIPE_BUF (4 KiB) go out with one
 * write, so that on a pipe or FIFO nothing of the application comes in between; a longer line is
 * one write of its own, in which the application's output can stand if the pipe is nearly full.
 *
 * A reader that is slow or gone holds up nobody: a worker thread writes, never waits longer than
 * LIMIT_STDOUT_WAIT_MS, and the batch goes on where it was, after 1, 2, 4, 4 … s. A batch that is
 * dropped meanwhile may leave a cut line, which is ended before the next batch. The application's
 * own descriptor is never made non-blocking (it shares the open file with us): a pipe or terminal
 * is opened again through /proc/self/fd, a socket is asked per call. Where that is not allowed (the
 * pipe belongs to another user) writes are of PIPE_BUF at most, into a pipe that has just said that
 * it has room.
 *
 * SIGPIPE must be ignored by the process; EPIPE is an error like others. */
#ifndef PILLION_SINKS_STDOUT_H
#define PILLION_SINKS_STDOUT_H

#include "agent/base/buf.h"
#include "uploader/sink.h"

/* `rest` is what stands behind "stdout:": nothing. env->stdout_fd stays the caller's and must stay
 * open as long as the sink. -EINVAL with `why`: something does stand there, or there is no standard
 * output. */
int sink_stdout_new(struct sink **ret, const struct sink_env *env, const char *rest,
                    struct buf *why);

#endif
