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
#define LIMIT_PORT_CONNECTIONS      64 /* to the command port */
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

/* Spool (uploader/SPOOL.md). A segment is a sixteenth of the spool within these bounds; the oldest goes, counted, when there are too
 * many of them or when they take more than PILLION_SPOOL_MAX. */
#define LIMIT_SPOOL_SEGMENT_LEAST_BYTES 65536
#define LIMIT_SPOOL_SEGMENT_MOST_BYTES  (4 * 1024 * 1024)
#define LIMIT_SPOOL_SEGMENTS            8192
#define LIMIT_SPOOL_PROBES              8                  /* segments looked into at the start */
#define LIMIT_SPOOL_PROBE_BYTES         (64 * 1024 * 1024) /* of one of them; what is larger is not ours */
#define LIMIT_SPOOL_POSITIONS           64 /* sinks remembered, those of earlier configurations included */
#define LIMIT_SPOOL_POSITIONS_BYTES     65536 /* the file is written anew beyond */
#define LIMIT_SPOOL_WORKERS                                                                        \
    2048 /* whose last sample is known; beyond: the one that was heard least recently goes */
#define LIMIT_SPOOL_DROPPED_WORKERS 64 /* counted one by one; beyond: together */
#define LIMIT_SPOOL_WORKER_MS                                                                      \
    3600000 /* without a sample for so long a worker is left out of the next segment */

/* Packing batches while a sink is away takes one part in so many of a core, and so long at once. */
#define LIMIT_PACK_SHARE    100
#define LIMIT_PACK_BURST_MS 200

/* What one sink is given at most while it catches up. */
#define LIMIT_DRAIN_PER_S       50
#define LIMIT_DRAIN_BYTES_PER_S (8 * 1024 * 1024)

/* Local sinks: files are rotated at this size; a directory holds at most so many of them and so many bytes; beyond: the oldest
 * goes, counted. Each start of the helper begins a new file, so that the number leaves room for a helper that restarts. */
#define LIMIT_SINK_FILE_BYTES (8 * 1024 * 1024)
#define LIMIT_SINK_DIR_BYTES  (64 * 1024 * 1024)
#define LIMIT_SINK_FILES      512

/* Standard output: a reader that takes nothing for so long makes the attempt fail; one attempt writes for so long at most. */
#define LIMIT_STDOUT_WAIT_MS  200
#define LIMIT_STDOUT_WRITE_MS 500

/* Requests outward. Beyond: refused (calls), an error (headers), cut (answers), taken as so much (Retry-After). */
#define LIMIT_CALLS          64
#define LIMIT_ANSWER_BYTES   65536
#define LIMIT_HEADER_BYTES   65536
#define LIMIT_RETRY_AFTER_MS 300000

/* Commands in one answer of a hub, and the bytes of one; beyond: left out, counted. */
#define LIMIT_HUB_COMMANDS      16
#define LIMIT_HUB_COMMAND_BYTES 8192

/* One request of a remote sink, records and bytes before compression; beyond: several requests. */
#define LIMIT_REQUEST_RECORDS 1000
#define LIMIT_REQUEST_BYTES   (4 * 1024 * 1024)

/* What a remote end will never take is kept beside, in a directory of so many files and bytes; beyond: the oldest goes, counted. */
#define LIMIT_PARKED_FILES 256
#define LIMIT_PARKED_BYTES (16 * 1024 * 1024)

/* Jobs. Beyond: a command is refused until there is room (jobs, queued), waits (running, snapshots); a small result beyond its cap
 * goes to the store alone. */
#define LIMIT_JOBS              1024
#define LIMIT_JOBS_QUEUED       256
#define LIMIT_JOBS_RUNNING      64
#define LIMIT_SNAPSHOTS_RUNNING 1 /* each takes memory of the container */
#define LIMIT_JOB_RESULT_BYTES  65536
#define LIMIT_JOB_FILE_BYTES    32768 /* of the table on disk */
#define LIMIT_JOB_REMEMBER_MS                                                                      \
    600000 /* an id is known for so long after its end: twice the life of a signature */
#define LIMIT_JOB_QUEUED_MS 900000 /* then a job that waits fails */
#define LIMIT_JOB_STORING_MS                                                                       \
    60000 /* then a job is done although its files are still on their way to the store */
#define LIMIT_JOB_GRACE_MS 10000  /* a capture beyond its own deadline is cancelled from outside */
#define LIMIT_JOB_HELD_MS  900000 /* a file that nobody fetched is let go */

/* Captures by rule. Beyond: none until the time has passed, counted. */
#define LIMIT_RULE_COOLDOWN_MS   300000
#define LIMIT_RULE_MEMORY        64 /* workers and rules whose cool-down is remembered; the oldest goes */
#define LIMIT_CRASH_REPORT_BYTES (64 * 1024 * 1024)

/* Artifacts on their way out. Beyond: a new one is refused (all), the oldest goes, counted (parked). What retention looks at in one
 * go; beyond: the rest is for the next. */
#define LIMIT_ARTIFACTS        1024
#define LIMIT_ARTIFACTS_PARKED 64
#define LIMIT_RETENTION_FILES  16384

/* Registry. Beyond: the value is refused (servers), the answer is not read (bytes, objects and arrays), those that come last in
 * this helper's own order are not remembered (hubs). */
#define LIMIT_REGISTRY_SERVERS      8
#define LIMIT_REGISTRY_ANSWER_BYTES 262144
#define LIMIT_REGISTRY_CONTAINERS   8192
#define LIMIT_HUBS                  16
/* The longest that leaving the registry may take; the stop never waits for more. */
#define LIMIT_REGISTRY_LEAVE_MS 1000

/* Heap snapshots. Classes with a name of their own, and the bytes of all their names; beyond: the later ones are counted together,
 * and the summary says so. A name beyond its bytes is cut. A description ("snapshot") beyond: no heap snapshot. */
#define LIMIT_HEAP_CLASSES     32768 /* a power of two */
#define LIMIT_HEAP_NAMES_BYTES (2 * 1024 * 1024)
#define LIMIT_HEAP_NAME_BYTES  200
#define LIMIT_HEAP_META_BYTES  65536

/* Notifications. Beyond: the value is refused (targets), the message is refused (bytes), the oldest goes, counted (messages and
 * bytes that wait on disk). */
#define LIMIT_NOTIFY_TARGETS     8
#define LIMIT_NOTIFY_BYTES       65536
#define LIMIT_NOTIFY_MESSAGES    1024
#define LIMIT_NOTIFY_QUEUE_BYTES (8 * 1024 * 1024)

/* Flame graphs. Names longer than so many bytes are cut; beyond the others: -EFBIG, except for the depth (what is called from there
 * counts as the last function's own), the timeline (it gets coarser) and the rows of tables. */
#define LIMIT_PROFILE_NODES      4000000 /* 32 to 48 bytes each */
#define LIMIT_PROFILE_NAME_BYTES 4096
#define LIMIT_PROFILE_TEXT_BYTES (32 * 1024 * 1024) /* all different names together */
#define LIMIT_PROFILE_SERIES_BYTES                                                                 \
    (16 * 1024 * 1024) /* samples that wait for their times, or the other way round; 2 bytes each */
#define LIMIT_PROFILE_DEPTH    4096
#define LIMIT_PROFILE_TIMELINE 65536
#define LIMIT_PROFILE_ROWS     50
#define LIMIT_PROFILE_SVG      20000 /* boxes; narrower ones are left out */

/* Warnings kept for the status page; beyond: the oldest goes. */
#define LIMIT_WARNINGS 16

#endif
