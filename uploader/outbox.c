/* All went well: put -> turn (worker thread: into the spool) -> settle -> kept, and each lane gets it.
 * Too much waits in memory: put -> drop the oldest -> on_later -> settle -> kept(-ENOBUFS).
 *
 * A parcel stays in the list, and its batch in memory, until it is durable: should fsync fail, it is written again
 * (turn.c). It leaves from the front only, hence the order of kept. What the lanes do is in lane.c. */
#include "uploader/outbox.h"

#include <errno.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/outbox_impl.h"

#define PARCEL_COST                                                                                \
    512 /* counted beside the bytes of a batch: parcel, struct batch, workers, malloc */
#define DROPS_EVERY_MS 10000
#define OPEN_RETRY_MS  1000

_Static_assert(LIMIT_SINKS <= 32, "a bit for each lane");

int parcel_new(struct parcel **ret, uint64_t seq) {
    struct parcel *p = mem_calloc(1, sizeof(*p));

    if (p == NULL)
        return -ENOMEM;
    p->seq = seq;
    *ret = p;
    return 0;
}

void parcel_free(struct parcel *p) {
    if (p == NULL)
        return;
    batch_unref(p->batch);
    mem_free(p->workers);
    mem_free(p);
}

uint64_t parcel_seq(const struct parcel *p) {
    return p->seq;
}

/* They come in the same order again and again. */
static struct parcel_worker *find_worker(struct parcel *p, const char *worker) {
    for (size_t k = 0; k < p->n_workers; k++) {
        size_t i = (p->hint + k) % p->n_workers;

        if (strcmp(p->workers[i].id, worker) == 0) {
            p->hint = i + 1;
            return &p->workers[i];
        }
    }
    return NULL;
}

static struct parcel_worker *add_worker(struct parcel *p, const char *worker) {
    if (strlen(worker) >= SPOOL_ID_BYTES)
        return NULL;
    if (p->n_workers == p->cap_workers) {
        size_t cap = p->cap_workers == 0 ? 8 : p->cap_workers * 2;
        struct parcel_worker *workers = mem_realloc(p->workers, cap * sizeof(*workers));

        if (workers == NULL)
            return NULL;
        p->workers = workers;
        p->cap_workers = cap;
    }
    p->workers[p->n_workers] = (struct parcel_worker){.last = 0};
    (void)text_copy(p->workers[p->n_workers].id, SPOOL_ID_BYTES, worker); /* fits */
    return &p->workers[p->n_workers++];
}

void parcel_note(struct parcel *p, const char *worker, uint64_t sample) {
    struct parcel_worker *w = find_worker(p, worker);

    if (w == NULL)
        w = add_worker(p, worker);
    if (w == NULL)
        return;
    if (sample > w->last)
        w->last = sample;
    w->count++;
}

static size_t parcel_cost(const struct parcel *p) {
    return p->batch != NULL ? p->batch->len + PARCEL_COST : 0;
}

void outbox_release(struct outbox *o, struct parcel *p) {
    o->bytes -= parcel_cost(p);
    batch_unref(p->batch);
    p->batch = NULL;
}

/* --- settling --- */

/* Nobody needs its place in the list any more. */
static bool is_done(const struct parcel *p) {
    if (p->in_turn || p->sending > 0)
        return false;
    return p->over || (p->written && (p->durable || p->batch == NULL));
}

static bool all_have_it(const struct outbox *o, const struct parcel *p) {
    return p->number == 0 && !p->in_turn && p->sending == 0 &&
           p->taken == (o->n_lanes < 32 ? (1u << o->n_lanes) - 1 : ~0u);
}

static void report(struct outbox *o) {
    for (struct parcel *p = o->first; p != NULL; p = p->next) {
        if (p->reported)
            continue;
        if (!p->written && !p->over && all_have_it(o, p)) {
            p->over = true;
            outbox_release(o, p);
        }
        if (!p->written && !p->over)
            return;
        p->reported = true;
        o->kept(o->arg, p->seq, p->rc); /* may put more, or close us */
    }
}

/* Reports what is decided and frees what is finished, from the front. */
void outbox_settle(struct outbox *o) {
    if (o->settling)
        return;
    o->settling = true;
    report(o);
    while (o->first != NULL && o->first->reported && is_done(o->first)) {
        struct parcel *p = o->first;

        o->first = p->next;
        if (o->first == NULL)
            o->last = NULL;
        outbox_release(o, p);
        parcel_free(p);
    }
    o->settling = false;
    if (o->was_busy && !o->closing && outbox_is_empty(o)) {
        o->was_busy = false;
        o->empty(o->arg);
    }
}

static void on_later(uv_timer_t *t) {
    outbox_settle(container_of(t, struct outbox, later));
}

static void settle_later(struct outbox *o) {
    if (!o->closing)
        (void)uv_timer_start(&o->later, on_later, 0, 0); /* fails for closing handles only */
}

bool outbox_is_empty(const struct outbox *o) {
    for (const struct parcel *p = o->first; p != NULL; p = p->next)
        if (!p->reported)
            return false;
    for (unsigned i = 0; i < o->n_lanes; i++)
        if (!lane_is_empty(&o->lanes[i]))
            return false;
    return !o->turn_running;
}

/* --- room in memory --- */

static void drop(struct outbox *o, struct parcel *p, int rc) {
    for (unsigned i = 0; i < o->n_lanes; i++)
        o->lanes[i].dropped += !lane_has(&o->lanes[i], p);
    outbox_release(o, p);
    p->over = true;
    p->rc = rc;
    counter_add(COUNTER_BATCHES_DROPPED, 1);
    for (size_t i = 0; i < p->n_workers; i++)
        counter_add(COUNTER_SPOOL_SAMPLES_DROPPED, p->workers[i].count);
}

/* First what is in the spool and only waits for fsync, then the oldest of what is not. The newest stays whatever its
 * size, and what a thread or a sink reads cannot go. */
static void enforce_cap(struct outbox *o) {
    uint64_t dropped = 0, seq = 0;

    for (struct parcel *p = o->first; p != NULL && o->bytes > LIMIT_BACKLOG_BYTES; p = p->next)
        if (p->written && !p->in_turn && p->batch != NULL)
            outbox_release(o, p);
    for (struct parcel *p = o->first; p != o->last && o->bytes > LIMIT_BACKLOG_BYTES; p = p->next) {
        if (p->over || p->written || p->in_turn || p->sending > 0 || p->batch == NULL)
            continue;
        seq = p->seq;
        dropped++;
        drop(o, p, -ENOBUFS);
    }
    if (dropped > 0 && log_due(&o->drops_warned, DROPS_EVERY_MS))
        log_warn("batch %llu dropped: %d MiB of batches wait in memory already",
                 (unsigned long long)seq, LIMIT_BACKLOG_BYTES >> 20);
}

void outbox_put(struct outbox *o, struct parcel *p, struct batch *batch, int rc) {
    p->batch = batch;
    p->next = NULL;
    p->rc = rc;
    p->time_ms = clock_wall_ms();
    p->over = rc != 0 || o->spool == NULL;
    if (rc != 0)
        counter_add(COUNTER_BATCHES_DROPPED, 1);
    if (o->last != NULL)
        o->last->next = p;
    else
        o->first = p;
    o->last = p;
    o->bytes += parcel_cost(p);
    o->was_busy = true;
    enforce_cap(o);
    settle_later(o);
    turn_begin(o);
    for (unsigned i = 0; i < o->n_lanes; i++)
        lane_pump(&o->lanes[i]);
}

void outbox_hurry(struct outbox *o) {
    turn_hurry(o);
    for (unsigned i = 0; i < o->n_lanes; i++) {
        (void)uv_timer_stop(&o->lanes[i].retry); /* never fails */
        lane_pump(&o->lanes[i]);
    }
}

uint64_t outbox_stored(struct outbox *o, const char *worker) {
    const struct spool_tally *t = spool_tallies_find(&o->stored, worker);

    return t != NULL ? t->number : 0;
}

/* --- beginning --- */

/* What can pass by itself. */
static bool is_passing(int rc) {
    return rc == -ENOSPC || rc == -EDQUOT || rc == -EROFS || rc == -EIO || rc == -EMFILE ||
           rc == -ENFILE || rc == -ESTALE;
}

static int open_spool(struct outbox *o, const struct outbox_options *options,
                      struct sink *const *sinks, unsigned n, struct buf *why) {
    int rc = spool_boot_parse(o->boot, options->boot);

    if (rc == 0)
        rc = spool_new(&o->spool, options->spool_dir, options->spool_max_bytes);
    for (unsigned i = 0; rc == 0 && i < n; i++) {
        int place = spool_claim(o->spool, sinks[i]->name);

        rc = place < 0 ? place : 0;
        o->lanes[i].place = place;
    }
    if (rc != 0)
        return rc;
    rc = spool_open(o->spool, o->last_error, sizeof(o->last_error));
    if (rc == 0)
        rc = spool_copy_workers(o->spool, &o->stored);
    if (is_passing(rc)) {
        log_warn("%s; tried again until it works", o->last_error);
        o->write_delay_ms = 1; /* failing */
        rc = 0;
    } else if (rc != 0 && rc != -ENOMEM) {
        buf_puts(why, o->last_error);
    }
    spool_look(o->spool, &o->view);
    return rc;
}

static void init_handles(struct outbox *o, struct sink *const *sinks) {
    (void)uv_timer_init(o->loop, &o->later); /* never fails */
    (void)uv_timer_init(o->loop, &o->again);
    (void)uv_timer_init(o->loop, &o->sync_due);
    if (o->spool != NULL && !o->view.open)
        (void)uv_timer_start(&o->again, turn_on_again, OPEN_RETRY_MS, 0); /* the handle is open */
    uv_unref((uv_handle_t *)&o
                 ->sync_due); /* a loop that has nothing else to do may end: closing syncs */
    for (unsigned i = 0; i < o->n_lanes; i++) {
        struct lane *l = &o->lanes[i];

        lane_init(l, o, i, sinks[i]);
        if (o->view.open)
            l->next = l->cursor.next = spool_position(o->spool, l->place);
    }
}

int outbox_new(struct outbox **ret, uv_loop_t *loop, const struct outbox_options *options,
               struct sink *const *sinks, unsigned n, outbox_kept_cb kept, outbox_empty_cb empty,
               void *arg, struct buf *why) {
    struct outbox *o = mem_calloc(1, sizeof(*o) + n * sizeof(o->lanes[0]));
    int rc = 0;

    if (o == NULL)
        return -ENOMEM;
    o->loop = loop;
    o->kept = kept;
    o->empty = empty;
    o->arg = arg;
    o->sync_ms = options->spool_sync_ms;
    buf_init(&o->dropped_json, 16384);
    buf_init(&o->turn_dropped_json, 16384);
    if (n > 0)
        rc = open_spool(o, options, sinks, n, why);
    if (rc != 0) {
        spool_tallies_clear(&o->stored);
        spool_free(o->spool);
        mem_free(o);
        return rc;
    }
    o->n_lanes = n;
    init_handles(o, sinks);
    *ret = o;
    return 0;
}

int outbox_start(struct outbox *o) {
    for (unsigned i = 0; i < o->n_lanes; i++) {
        struct lane *l = &o->lanes[i];
        int rc = l->sink->ops->start != NULL ? l->sink->ops->start(l->sink) : 0;

        if (rc != 0)
            return rc;
        o->was_busy |= !lane_is_empty(l);
        lane_start(l);
    }
    return 0;
}

/* --- the end --- */

/* The last act: nothing is open or under way. */
static void finish_close(struct outbox *o) {
    for (struct parcel *p = o->first; p != NULL; p = p->next)
        if (!p->written && !p->over)
            drop(o, p, -ECANCELED);
    outbox_settle(o);
    while (o->first != NULL) { /* kept, and not durable as far as is known */
        struct parcel *p = o->first;

        o->first = p->next;
        parcel_free(p);
    }
    for (unsigned i = 0; i < o->n_lanes; i++)
        lane_clear(&o->lanes[i]);
    spool_free(o->spool);
    spool_tallies_clear(&o->stored);
    buf_clear(&o->dropped_json);
    buf_clear(&o->turn_dropped_json);
    o->closed(o->closed_arg);
    mem_free(o);
}

static void on_sink_closed(void *arg) {
    struct lane *l = arg;

    l->started = false;
    l->outbox->busy--;
    outbox_maybe_closed(l->outbox);
}

/* Timers close at once, sinks when their send has come back; then the last turn writes what is left. */
void outbox_maybe_closed(struct outbox *o) {
    if (!o->closing)
        return;
    for (unsigned i = 0; i < o->n_lanes; i++) {
        struct lane *l = &o->lanes[i];

        if (!l->started || l->sending)
            continue;
        l->started = false;
        if (l->parcel != NULL)
            l->parcel->sending--;
        l->parcel = NULL;
        if (l->sink->ops->close == NULL)
            continue;
        o->busy++;
        l->sink->ops->close(l->sink, on_sink_closed, l);
    }
    if (o->busy > 0 || o->turn_running || o->sync_running)
        return;
    if (o->spool != NULL && !o->final_done && o->view.open)
        turn_begin(o);
    else
        finish_close(o);
}

static void on_handle_closed(uv_handle_t *h) {
    struct outbox *o = h->data;

    o->busy--;
    outbox_maybe_closed(o);
}

static void close_timer(struct outbox *o, uv_timer_t *t) {
    t->data = o;
    o->busy++;
    uv_close((uv_handle_t *)t, on_handle_closed);
}

void outbox_close(struct outbox *o, void (*closed)(void *arg), void *arg) {
    if (o->closing)
        return;
    o->closing = true;
    o->closed = closed;
    o->closed_arg = arg;
    close_timer(o, &o->later);
    close_timer(o, &o->again);
    close_timer(o, &o->sync_due);
    for (unsigned i = 0; i < o->n_lanes; i++) {
        struct lane *l = &o->lanes[i];

        if (l->sending && l->sink->ops->hurry != NULL)
            l->sink->ops->hurry(l->sink);
        close_timer(o, &l->retry);
    }
}

/* --- status --- */

void outbox_status(const struct outbox *o, struct buf *out) {
    buf_putc(out, '[');
    for (unsigned i = 0; i < o->n_lanes; i++) {
        if (i > 0)
            buf_putc(out, ',');
        lane_status(&o->lanes[i], out);
    }
    if (o->n_lanes == 0)
        buf_puts(out, "{\"sink\":\"none\",\"state\":\"ok\",\"backlog\":0,\"backlog_bytes\":0,"
                      "\"lag\":0,\"sent\":0,"
                      "\"dropped\":0,\"last_success\":null,\"last_error\":null}");
    buf_putc(out, ']');
}

void outbox_spool_status(const struct outbox *o, struct buf *out) {
    const struct spool_view *v = &o->view;

    if (o->spool == NULL) {
        buf_puts(out, "{\"state\":\"none\"}");
        return;
    }
    buf_printf(out, "{\"state\":\"%s\",\"bytes\":", o->write_delay_ms > 0 ? "failing" : "ok");
    buf_u64(out, v->bytes);
    buf_puts(out, ",\"limit\":");
    buf_u64(out, v->max_bytes);
    buf_printf(out, ",\"segments\":%u,\"quarantine\":%u,\"quarantine_bytes\":", v->segments,
               v->aside_files);
    buf_u64(out, v->aside_bytes);
    buf_puts(out, ",\"waiting_bytes\":");
    buf_u64(out, o->bytes);
    buf_puts(out, ",\"dropped_samples\":");
    buf_puts(out, o->dropped_json.len > 0 ? o->dropped_json.data : "{}");
    buf_puts(out, ",\"last_error\":");
    if (o->last_error[0] != '\0')
        buf_json_string(out, o->last_error);
    else
        buf_puts(out, "null");
    buf_putc(out, '}');
}
