/* All went well: add -> writer … on_flush or full -> close_batch -> outbox … on_kept -> kept.
 * Stop: the open batch is closed, sinks in back-off try at once; it ends when the outbox is empty,
 *     or at the deadline.
 *
 * Records are deflated as they come, 20 to 30 us each on the loop: neither raw text nor a worker
 * thread is held for them, and closing a batch costs nothing more. With `none` there is no writer;
 * batches are numbers that are kept in the next turn of the loop. */
#include "uploader/uploader.h"

#include <errno.h>
#include <limits.h>

#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "uploader/batch.h"
#include "uploader/outbox.h"
#include "uploader/sink.h"

#define SPOOL_MAX_BYTES (64u * 1024 * 1024)
#define SPOOL_SYNC_MS   1000

struct uploader {
    uv_loop_t *loop;
    uploader_kept_cb kept;
    void *arg;
    uint64_t flush_interval_ms;
    uint64_t batch_max_bytes;
    struct batch_writer *writer; /* NULL: no sinks */
    struct outbox *outbox;
    struct parcel *open; /* the batch that takes records now */
    uint64_t records;    /* in it */
    uint64_t last_seq;
    uv_timer_t flush; /* runs only while there is a record */
    uv_timer_t stop;  /* the deadline */
    bool running;
    void (*stopped)(void *arg);
    void *stopped_arg;
    unsigned open_handles; /* while closing; the outbox counts as one */
    void (*closed)(void *arg);
    void *closed_arg;
};

static void call_stopped(struct uploader *u) {
    void (*stopped)(void *arg) = u->stopped;

    if (stopped == NULL)
        return;
    u->stopped = NULL;
    (void)uv_timer_stop(&u->stop); /* never fails */
    stopped(u->stopped_arg);
}

static void on_kept(void *arg, uint64_t seq, int rc) {
    struct uploader *u = arg;

    u->kept(u->arg, seq, rc);
}

static void on_empty(void *arg) {
    call_stopped(arg);
}

static void on_deadline(uv_timer_t *t) {
    struct uploader *u = container_of(t, struct uploader, stop);

    if (!outbox_is_empty(u->outbox))
        log_warn("stopping: batches are left that no sink took in time; they stay in the spool");
    call_stopped(u);
}

static int open_outbox(struct uploader *u, uv_loop_t *loop, const struct uploader_options *options,
                       struct sink *const *sinks, unsigned n, struct buf *why) {
    struct outbox_options o = {
        .boot = options->boot,
        .spool_max_bytes =
            options->spool_max_bytes > 0 ? options->spool_max_bytes : SPOOL_MAX_BYTES,
        .spool_sync_ms = options->spool_sync_ms > 0 ? options->spool_sync_ms : SPOOL_SYNC_MS,
    };
    struct buf dir;
    int rc;

    buf_init(&dir, PATH_MAX);
    buf_printf(&dir, "%s/spool", options->data_dir);
    rc = dir.err;
    o.spool_dir = dir.data;
    if (rc == 0)
        rc = outbox_new(&u->outbox, loop, &o, sinks, n, on_kept, on_empty, u, why);
    buf_clear(&dir);
    return rc;
}

int uploader_new(struct uploader **ret, uv_loop_t *loop, const struct uploader_options *options,
                 uploader_kept_cb kept, void *arg, struct buf *why) {
    struct sink_env env = {.loop = loop,
                           .data_dir = options->data_dir,
                           .boot = options->boot,
                           .stdout_fd = STDOUT_FILENO,
                           .http = options->http,
                           .app = options->app,
                           .instance = options->instance,
                           .token = options->token,
                           .hubs = options->hubs,
                           .command = options->command,
                           .command_arg = options->command_arg};
    struct uploader *u = mem_calloc(1, sizeof(*u));
    struct sink *sinks[LIMIT_SINKS];
    unsigned n = 0;
    int rc = u != NULL ? 0 : -ENOMEM;

    if (rc == 0)
        rc = sink_list_new(sinks, &n, options->sinks, &env, why);
    if (rc == 0 && n > 0)
        rc = batch_writer_new(&u->writer, options->app, options->instance, options->boot);
    if (rc == -E2BIG) {
        buf_puts(why, "PILLION_APP and PILLION_INSTANCE together are longer than 60,000 bytes");
        rc = -EINVAL;
    }
    /* The last that can fail: from here on there are handles. */
    if (rc == 0)
        rc = open_outbox(u, loop, options, sinks, n, why);
    if (rc != 0)
        goto out;
    u->loop = loop;
    u->kept = kept;
    u->arg = arg;
    u->batch_max_bytes = options->batch_max_bytes;
    u->flush_interval_ms = n > 0 ? options->flush_interval_ms : 0;
    (void)uv_timer_init(loop, &u->flush); /* never fails */
    (void)uv_timer_init(loop, &u->stop);
    *ret = u;
    return 0;
out:
    while (n > 0) {
        n--;
        sinks[n]->ops->free(sinks[n]);
    }
    if (u != NULL)
        batch_writer_free(u->writer);
    mem_free(u);
    return rc;
}

int uploader_start(struct uploader *u) {
    int rc = outbox_start(u->outbox);

    if (rc == 0)
        u->running = true;
    return rc;
}

/* Hands the open batch over; rc != 0: it is given up instead. */
static void close_batch(struct uploader *u, int rc) {
    struct parcel *p = u->open;
    struct batch *batch = NULL;

    if (p == NULL || u->records == 0)
        return;
    (void)uv_timer_stop(&u->flush); /* never fails */
    u->open = NULL;
    u->records = 0;
    if (u->writer != NULL) {
        int err = batch_writer_finish(u->writer, &batch);

        if (rc == 0)
            rc = err;
    }
    if (rc != 0) {
        batch_unref(batch);
        batch = NULL;
    }
    counter_add(COUNTER_BATCHES, 1);
    outbox_put(u->outbox, p, batch, rc);
}

static void on_flush(uv_timer_t *t) {
    close_batch(container_of(t, struct uploader, flush), 0);
}

/* Makes sure of an open batch. One without records stays for the next time, so that no number is
 * left out. */
static int open_batch(struct uploader *u) {
    int rc = 0;

    if (u->open == NULL) {
        rc = parcel_new(&u->open, u->last_seq + 1);
        if (rc == 0)
            u->last_seq++;
    }
    if (rc == 0 && u->records == 0 && u->writer != NULL)
        rc = batch_writer_begin(u->writer, u->last_seq);
    return rc;
}

int uploader_add_sample(struct uploader *u, const char *json, size_t len, const char *worker,
                        uint64_t sample, uint64_t *ret_seq) {
    int rc;

    if (!u->running)
        return -ESHUTDOWN;
    if (u->writer != NULL && batch_writer_raw_bytes(u->writer) + len + 1 > u->batch_max_bytes)
        close_batch(u, 0);
    rc = open_batch(u);
    if (rc == 0 && u->writer != NULL)
        rc = batch_writer_add(u->writer, json, len);
    if (rc == -ENOMEM)
        counter_add(COUNTER_OUT_OF_MEMORY, 1);
    if (rc != 0 && rc != -EIO) /* after -EIO the record is in, and the batch ends with that error */
        return rc;
    *ret_seq = u->last_seq;
    if (worker != NULL)
        parcel_note(u->open, worker, sample);
    if (u->records++ == 0)
        (void)uv_timer_start(&u->flush, on_flush, u->flush_interval_ms, 0); /* the handle is open */
    if (u->writer != NULL && batch_writer_raw_bytes(u->writer) >= u->batch_max_bytes)
        close_batch(u, 0);
    return 0;
}

int uploader_add(struct uploader *u, const char *json, size_t len, uint64_t *ret_seq) {
    return uploader_add_sample(u, json, len, NULL, 0, ret_seq);
}

uint64_t uploader_stored(struct uploader *u, const char *worker) {
    return outbox_stored(u->outbox, worker);
}

void uploader_flush(struct uploader *u) {
    close_batch(u, 0);
}

void uploader_stop(struct uploader *u, uint64_t deadline_ms, void (*stopped)(void *arg),
                   void *arg) {
    uint64_t now = uv_now(u->loop), wait_ms = deadline_ms > now ? deadline_ms - now : 0;

    u->running = false;
    u->stopped = stopped;
    u->stopped_arg = arg;
    close_batch(u, 0);
    outbox_hurry(u->outbox);
    if (outbox_is_empty(u->outbox))
        wait_ms = 0;
    (void)uv_timer_start(&u->stop, on_deadline, wait_ms, 0); /* the handle is open */
}

static void maybe_closed(struct uploader *u) {
    if (--u->open_handles > 0)
        return;
    call_stopped(u); /* closed before the deadline of a stop */
    batch_writer_free(u->writer);
    parcel_free(u->open);
    u->closed(u->closed_arg);
    mem_free(u);
}

static void on_flush_closed(uv_handle_t *h) {
    maybe_closed(container_of((uv_timer_t *)h, struct uploader, flush));
}

static void on_stop_closed(uv_handle_t *h) {
    maybe_closed(container_of((uv_timer_t *)h, struct uploader, stop));
}

static void on_outbox_closed(void *arg) {
    maybe_closed(arg);
}

void uploader_close(struct uploader *u, void (*closed)(void *arg), void *arg) {
    if (u->open_handles > 0)
        return;
    u->running = false;
    u->closed = closed;
    u->closed_arg = arg;
    u->open_handles = 3;
    close_batch(u, -ECANCELED);
    outbox_close(u->outbox, on_outbox_closed, u);
    uv_close((uv_handle_t *)&u->flush, on_flush_closed);
    uv_close((uv_handle_t *)&u->stop, on_stop_closed);
}

void uploader_status(const struct uploader *u, struct buf *out) {
    outbox_status(u->outbox, out);
}

void uploader_spool_status(const struct uploader *u, struct buf *out) {
    outbox_spool_status(u->outbox, out);
}
