/* uploader.h - from records to sinks: batches by age and size, compressed off the loop, handed to every sink.
 *
 * A batch is gzip of NDJSON: one header line, then one flat record a line. (boot, seq) names it for ever. Loop thread only. */
#ifndef PILLION_UPLOADER_H
#define PILLION_UPLOADER_H

#include <stdint.h>
#include <uv.h>

#include "agent/base/buf.h"
#include "uploader/sink.h"

struct uploader;

struct uploader_options {
    const char *app;
    const char *instance;
    const char *boot;  /* this run of the helper: 32 hex digits */
    const char *sinks; /* as PILLION_SINK has it */
    const char *data_dir;
    uint64_t flush_interval_ms;
    uint64_t batch_max_bytes; /* of records, before compression */
    uint64_t spool_max_bytes; /* of <data_dir>/spool; 0: 64 MiB */
    uint64_t spool_sync_ms;   /* between two fsyncs of it; 0: 1 s */
    /* For remote sinks; what they point to has to outlive the uploader. */
    struct http *http;            /* NULL: there are none */
    const struct sink_hubs *hubs; /* NULL: there is no registry */
    const char *token;            /* NULL: none */
    sink_command_cb command;      /* NULL: nobody takes them */
    void *command_arg;
};

/* Every batch ends here once: rc 0 when it is in the spool (it survives a kill of this process, and within spool_sync_ms a crash of
 * the host), or a negative errno when it had to be dropped. In order of seq. Samples in it may then be acknowledged. Never from
 * inside a call. */
typedef void (*uploader_kept_cb)(void *arg, uint64_t seq, int rc);

/* Checks `sinks` and opens them; -EINVAL with a line for people in `why`. Copies the options. */
int uploader_new(struct uploader **ret, uv_loop_t *loop, const struct uploader_options *options,
                 uploader_kept_cb kept, void *arg, struct buf *why);
int uploader_start(struct uploader *u);
/* Takes one record, a JSON object without newline. *ret_seq is the batch that it went into. -ESHUTDOWN: stopping;
 * -EMSGSIZE: longer than LIMIT_RECORD_BYTES; -ENOMEM. When a sink takes nothing and what may wait is full, the oldest batch goes. */
int uploader_add(struct uploader *u, const char *json, size_t len, uint64_t *ret_seq);
/* The same for sample number `sample` of a worker: the spool remembers the highest one. */
int uploader_add_sample(struct uploader *u, const char *json, size_t len, const char *worker,
                        uint64_t sample, uint64_t *ret_seq);
/* The highest sample of this worker that the spool had when it was opened; 0 none. A worker that comes back need not send what is
 * up to it: it is delivered under the (boot, seq) that it has. */
uint64_t uploader_stored(struct uploader *u, const char *worker);
/* Closes the open batch now, if it has records. */
void uploader_flush(struct uploader *u);
/* Flushes, waits for the sinks until deadline (uv_now clock, ms), then calls back once. */
void uploader_stop(struct uploader *u, uint64_t deadline_ms, void (*stopped)(void *arg), void *arg);
void uploader_close(struct uploader *u, void (*closed)(void *arg), void *arg);
/* Appends a JSON array, one object a sink: sink, state, backlog, lag, sent, dropped, last_success, last_error (null when none). */
void uploader_status(const struct uploader *u, struct buf *out);
/* Appends a JSON object: the spool. */
void uploader_spool_status(const struct uploader *u, struct buf *out);

#endif
