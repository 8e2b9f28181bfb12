/* limits.h - every cap of the program in one place: what it bounds, and what happens beyond it. */
#ifndef PILLION_LIMITS_H
#define PILLION_LIMITS_H

/* Frames (ipc/PROTOCOL.md). Beyond: the connection is closed. */
#define LIMIT_FRAME_BYTES    65536 /* header included */
#define LIMIT_FRAME_STALL_MS 10000 /* from the first byte of a frame to its last */
#define LIMIT_JSON_DEPTH     16
#define LIMIT_JSON_CONTAINERS                                                                      \
    2048 /* objects and arrays of one document: jansson takes 240 bytes for each */
#define LIMIT_FIELDS      512  /* of a hello */
#define LIMIT_SLOTS       1024 /* numbers in a sample */
#define LIMIT_BOUNDS      24   /* of a histogram */
#define LIMIT_ATTRIBUTES  4    /* of a field */
#define LIMIT_NAME_BYTES  127
#define LIMIT_LABEL_BYTES 255

/* Workers. Beyond: "later" is answered, counted. */
#define LIMIT_WORKERS           1024
#define LIMIT_WORKER_SEND_BYTES 65536 /* queued towards one worker; beyond: closed */
/* What a worker holds unacknowledged; beyond: it drops its oldest, counted. */
#define LIMIT_WORKER_HOLD_BYTES 262144

/* Workers that have ended stay visible for so long, and so many of them at most (oldest first out). */
#define LIMIT_GONE_KEEP_MS 60000
#define LIMIT_GONE_KEEP    32

/* Points of a line of history in `top`, one a second. */
#define LIMIT_HISTORY 60

/* Files under /proc and /sys/fs/cgroup are read into buffers of this size; beyond: the rest is not looked at. */
#define LIMIT_PROC_FILE_BYTES 16384

/* Status socket. Beyond: the connection is refused or cut, counted. */
#define LIMIT_HTTP_CONNECTIONS      128
#define LIMIT_HTTP_CONNECTION_BYTES 16384
#define LIMIT_HTTP_TIMEOUT_S        5
#define LIMIT_HTTP_URL_BYTES        2048
#define LIMIT_HTTP_BODY_BYTES       65536              /* of a request; beyond: 413 */
#define LIMIT_HTTP_PAGE_BYTES       (32 * 1024 * 1024) /* of one answer; beyond: 500 */
#define LIMIT_HTTP_OUT_BYTES        (64 * 1024 * 1024) /* of all answers on their way; beyond: 503 */
#define LIMIT_HTTP_KEPT             4 /* answers kept for others who ask for the same */

/* Prometheus page. Beyond: the series is left out, counted. */
#define LIMIT_SERIES 50000

/* One record of a batch; beyond: refused (-EMSGSIZE). */
#define LIMIT_RECORD_BYTES (1024 * 1024)

/* Sinks, and what waits for them in memory, compressed, of all sinks together; beyond: the oldest batch goes, counted. */
#define LIMIT_SINKS         8
#define LIMIT_BACKLOG_BYTES (4 * 1024 * 1024)

/* Local sinks: files are rotated at this size; a directory holds at most so many of them and so many bytes; beyond: the oldest
 * goes, counted. Each start of the helper begins a new file, so that the number leaves room for a helper that restarts. */
#define LIMIT_SINK_FILE_BYTES (8 * 1024 * 1024)
#define LIMIT_SINK_DIR_BYTES  (64 * 1024 * 1024)
#define LIMIT_SINK_FILES      512

/* Standard output: a reader that takes nothing for so long makes the attempt fail; one attempt writes for so long at most. */
#define LIMIT_STDOUT_WAIT_MS  200
#define LIMIT_STDOUT_WRITE_MS 500

/* Warnings kept for the status page; beyond: the oldest goes. */
#define LIMIT_WARNINGS 16

#endif
