/* All went well: put -> pump -> sink->send … on_done(TAKEN) -> leave -> settle -> kept, and pump
 *     goes on with the next.
 * A sink fails: on_done(RETRY) -> timer -> pump with the same batch; the other sinks go on.
 * Too much waits: put -> drop the oldest -> on_later -> settle -> kept(-ENOBUFS).
 *
 * One list of parcels, oldest first, for all sinks. Each sink's lane points to the parcel that it
 * has to take next. A parcel leaves the list from the front only, when no lane has to come by it
 * any more: hence the order of kept. */
#include "uploader/outbox.h"

#include <errno.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define PARCEL_COST    256 /* counted beside the bytes of a batch: parcel, struct batch, malloc */
#define ERROR_BYTES    200
#define WARN_EVERY_MS  60000
#define DROPS_EVERY_MS 10000

struct parcel {
    struct parcel *next;
    uint64_t seq;
    struct batch *batch; /* NULL once dropped */
    unsigned to_come;    /* lanes that have not come by */
    unsigned sending;    /* lanes that are busy with it */
    bool dropped;
    int rc;
};

struct lane {
    struct outbox *outbox;
    struct sink *sink;
    struct parcel *at; /* next to send, or being sent; NULL: all done */
    bool sending;
    bool started;
    uint64_t delay_ms; /* of the back-off; 0 = the last attempt was fine */
    uv_timer_t retry;
    uint64_t sent, dropped;
    uint64_t failing_since_ms;
    uint64_t warned;
    int64_t last_success_ms; /* wall clock; -1 never */
    char last_error[ERROR_BYTES];
};

struct outbox {
    uv_loop_t *loop;
    outbox_kept_cb kept;
    outbox_empty_cb empty;
    void *arg;
    struct parcel *first, *last;
    size_t bytes;
    uint64_t drops_warned;
    uv_timer_t later; /* settles what was decided inside a call */
    bool closing, settling;
    unsigned busy; /* sends under way, and while closing open handles and sinks */
    void (*closed)(void *arg);
    void *closed_arg;
    unsigned n_lanes;
    struct lane lanes[];
};

static void pump(struct lane *l);
static void maybe_closed(struct outbox *o);

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
    mem_free(p);
}

uint64_t parcel_seq(const struct parcel *p) {
    return p->seq;
}

static size_t parcel_cost(const struct parcel *p) {
    return p->batch != NULL ? p->batch->len + PARCEL_COST : 0;
}

static void release_batch(struct outbox *o, struct parcel *p) {
    o->bytes -= parcel_cost(p);
    batch_unref(p->batch);
    p->batch = NULL;
}

/* Reports and frees from the front what is finished. Reports may put more, or close us. */
static void settle(struct outbox *o) {
    bool any = false;

    if (o->settling)
        return;
    o->settling = true;
    while (o->first != NULL && o->first->to_come == 0) {
        struct parcel *p = o->first;

        o->first = p->next;
        if (o->first == NULL)
            o->last = NULL;
        release_batch(o, p);
        any = true;
        o->kept(o->arg, p->seq, p->rc);
        mem_free(p);
    }
    o->settling = false;
    if (any && o->first == NULL && !o->closing)
        o->empty(o->arg);
}

static void on_later(uv_timer_t *t) {
    settle(container_of(t, struct outbox, later));
}

static void settle_later(struct outbox *o) {
    if (!o->closing)
        (void)uv_timer_start(&o->later, on_later, 0, 0); /* fails for closing handles only */
}

static void skip_dropped(struct lane *l) {
    while (l->at != NULL && l->at->dropped)
        l->at = l->at->next;
}

/* The lane has come by its parcel. */
static void leave(struct lane *l) {
    struct parcel *p = l->at;

    p->to_come--;
    l->at = p->next;
    skip_dropped(l);
}

static bool has_ahead(const struct lane *l, const struct parcel *p) {
    for (const struct parcel *q = l->at; q != NULL; q = q->next)
        if (q == p)
            return true;
    return false;
}

static void drop(struct outbox *o, struct parcel *p, int rc) {
    for (unsigned i = 0; i < o->n_lanes; i++)
        if (has_ahead(&o->lanes[i], p))
            o->lanes[i].dropped++;
    release_batch(o, p);
    p->dropped = true;
    p->to_come = 0;
    p->rc = rc;
    for (unsigned i = 0; i < o->n_lanes; i++)
        skip_dropped(&o->lanes[i]);
    counter_add(COUNTER_BATCHES_DROPPED, 1);
}

/* The newest stays whatever its size, and what a sink is reading cannot go. */
static void enforce_cap(struct outbox *o) {
    uint64_t dropped = 0, seq = 0;

    for (struct parcel *p = o->first; p != o->last && o->bytes > LIMIT_BACKLOG_BYTES; p = p->next) {
        if (p->to_come == 0 || p->sending > 0)
            continue;
        seq = p->seq;
        dropped++;
        drop(o, p, -ENOBUFS);
    }
    if (dropped > 0 && log_due(&o->drops_warned, DROPS_EVERY_MS))
        log_warn("batch %llu dropped: %d MiB of batches wait for sinks already",
                 (unsigned long long)seq, LIMIT_BACKLOG_BYTES >> 20);
}

void outbox_put(struct outbox *o, struct parcel *p, struct batch *batch, int rc) {
    p->batch = batch;
    p->next = NULL;
    p->rc = rc;
    p->dropped = rc != 0;
    p->to_come = rc != 0 ? 0 : o->n_lanes;
    if (rc != 0)
        counter_add(COUNTER_BATCHES_DROPPED, 1);
    if (o->last != NULL)
        o->last->next = p;
    else
        o->first = p;
    o->last = p;
    o->bytes += parcel_cost(p);
    for (unsigned i = 0; rc == 0 && i < o->n_lanes; i++)
        if (o->lanes[i].at == NULL)
            o->lanes[i].at = p;
    enforce_cap(o);
    if (o->first->to_come == 0)
        settle_later(o);
    for (unsigned i = 0; i < o->n_lanes; i++)
        pump(&o->lanes[i]);
}

static void pump(struct lane *l) {
    struct outbox *o = l->outbox;

    if (l->at == NULL || l->sending || !l->started || o->closing ||
        uv_is_active((uv_handle_t *)&l->retry))
        return;
    l->sending = true;
    l->at->sending++;
    o->busy++;
    l->sink->ops->send(l->sink, l->at->batch);
}

static void on_retry(uv_timer_t *t) {
    pump(container_of(t, struct lane, retry));
}

static void note_success(struct lane *l) {
    if (l->delay_ms > 0)
        log_info("sink \"%s\" works again after %llu s", l->sink->name,
                 (unsigned long long)((clock_mono_ms() - l->failing_since_ms) / 1000));
    l->delay_ms = 0;
    l->warned = 0;
    l->sent++;
    l->last_success_ms = clock_wall_ms();
    counter_add(COUNTER_BATCHES_SENT, 1);
}

static void note_failure(struct lane *l, const char *error) {
    (void)text_copy(l->last_error, sizeof(l->last_error), error); /* cut is fine */
    counter_add(COUNTER_BATCHES_FAILED, 1);
}

static void wait_and_retry(struct lane *l, const struct sink_result *r) {
    const struct sink_ops *ops = l->sink->ops;
    uint64_t wait_ms;

    if (l->delay_ms == 0)
        l->failing_since_ms = clock_mono_ms();
    l->delay_ms = l->delay_ms == 0 ? ops->retry_min_ms : l->delay_ms * 2;
    if (l->delay_ms > ops->retry_max_ms)
        l->delay_ms = ops->retry_max_ms;
    wait_ms = r->retry_ms > 0 ? r->retry_ms : l->delay_ms;
    if (log_due(&l->warned, WARN_EVERY_MS))
        log_warn("sink \"%s\": %s; batches wait, tried again every %llu s at most", l->sink->name,
                 l->last_error, (unsigned long long)((ops->retry_max_ms + 999) / 1000));
    (void)uv_timer_start(&l->retry, on_retry, wait_ms, 0); /* the handle is open */
}

static void on_done(void *arg, const struct sink_result *r) {
    struct lane *l = arg;
    struct outbox *o = l->outbox;

    l->sending = false;
    l->at->sending--;
    o->busy--;
    if (r->verdict == SINK_TAKEN) {
        note_success(l);
        leave(l);
    } else {
        note_failure(l, r->error);
        if (r->verdict == SINK_REFUSED) {
            log_warn("sink \"%s\": batch %llu was refused: %s", l->sink->name,
                     (unsigned long long)l->at->seq, l->last_error);
            l->delay_ms = 0;
            l->dropped++;
            l->at->rc = -EBADMSG;
            leave(l);
        } else if (!o->closing) {
            wait_and_retry(l, r);
        }
    }
    settle(o); /* may close us: pump() and maybe_closed() look */
    pump(l);
    maybe_closed(o);
}

bool outbox_is_empty(const struct outbox *o) {
    return o->first == NULL;
}

void outbox_hurry(struct outbox *o) {
    for (unsigned i = 0; i < o->n_lanes; i++) {
        (void)uv_timer_stop(&o->lanes[i].retry); /* never fails */
        pump(&o->lanes[i]);
    }
}

int outbox_new(struct outbox **ret, uv_loop_t *loop, struct sink *const *sinks, unsigned n,
               outbox_kept_cb kept, outbox_empty_cb empty, void *arg) {
    struct outbox *o = mem_calloc(1, sizeof(*o) + n * sizeof(o->lanes[0]));

    if (o == NULL)
        return -ENOMEM;
    o->loop = loop;
    o->kept = kept;
    o->empty = empty;
    o->arg = arg;
    o->n_lanes = n;
    (void)uv_timer_init(loop, &o->later); /* never fails */
    for (unsigned i = 0; i < n; i++) {
        struct lane *l = &o->lanes[i];

        l->outbox = o;
        l->sink = sinks[i];
        l->sink->done = on_done;
        l->sink->done_arg = l;
        l->last_success_ms = -1;
        (void)uv_timer_init(loop, &l->retry);
    }
    *ret = o;
    return 0;
}

int outbox_start(struct outbox *o) {
    for (unsigned i = 0; i < o->n_lanes; i++) {
        struct lane *l = &o->lanes[i];
        int rc = l->sink->ops->start != NULL ? l->sink->ops->start(l->sink) : 0;

        if (rc != 0)
            return rc;
        l->started = true;
        pump(l);
    }
    return 0;
}

/* The last act: nothing is open or under way. */
static void finish_close(struct outbox *o) {
    for (struct parcel *p = o->first; p != NULL; p = p->next)
        if (p->to_come > 0)
            drop(o, p, -ECANCELED);
    settle(o);
    for (unsigned i = 0; i < o->n_lanes; i++)
        o->lanes[i].sink->ops->free(o->lanes[i].sink);
    o->closed(o->closed_arg);
    mem_free(o);
}

static void on_sink_closed(void *arg) {
    struct lane *l = arg;

    l->started = false;
    l->outbox->busy--;
    maybe_closed(l->outbox);
}

/* Timers close at once, sinks when their send has come back. */
static void maybe_closed(struct outbox *o) {
    if (!o->closing)
        return;
    for (unsigned i = 0; i < o->n_lanes; i++) {
        struct lane *l = &o->lanes[i];

        if (!l->started || l->sending)
            continue;
        l->started = false;
        if (l->sink->ops->close == NULL)
            continue;
        o->busy++;
        l->sink->ops->close(l->sink, on_sink_closed, l);
    }
    if (o->busy == 0)
        finish_close(o);
}

static void on_retry_closed(uv_handle_t *h) {
    struct lane *l = container_of((uv_timer_t *)h, struct lane, retry);

    l->outbox->busy--;
    maybe_closed(l->outbox);
}

static void on_later_closed(uv_handle_t *h) {
    struct outbox *o = container_of((uv_timer_t *)h, struct outbox, later);

    o->busy--;
    maybe_closed(o);
}

void outbox_close(struct outbox *o, void (*closed)(void *arg), void *arg) {
    if (o->closing)
        return;
    o->closing = true;
    o->closed = closed;
    o->closed_arg = arg;
    o->busy += 1 + o->n_lanes;
    uv_close((uv_handle_t *)&o->later, on_later_closed);
    for (unsigned i = 0; i < o->n_lanes; i++) {
        struct lane *l = &o->lanes[i];

        if (l->sending && l->sink->ops->hurry != NULL)
            l->sink->ops->hurry(l->sink);
        uv_close((uv_handle_t *)&l->retry, on_retry_closed);
    }
}

static void put_backlog(const struct lane *l, struct buf *out) {
    uint64_t n = 0, bytes = 0;

    for (const struct parcel *p = l->at; p != NULL; p = p->next)
        if (!p->dropped) {
            n++;
            bytes += p->batch->len;
        }
    buf_puts(out, ",\"backlog\":");
    buf_u64(out, n);
    buf_puts(out, ",\"backlog_bytes\":");
    buf_u64(out, bytes);
}

static void lane_status(const struct lane *l, struct buf *out) {
    char when[CLOCK_ISO_BYTES];

    buf_puts(out, "{\"sink\":");
    buf_json_string(out, l->sink->name);
    buf_printf(out, ",\"state\":\"%s\"",
               l->outbox->closing ? "closing"
               : l->delay_ms > 0  ? "failing"
                                  : "ok");
    put_backlog(l, out);
    buf_puts(out, ",\"sent\":");
    buf_u64(out, l->sent);
    buf_puts(out, ",\"dropped\":");
    buf_u64(out, l->dropped);
    buf_puts(out, ",\"last_success\":");
    if (l->last_success_ms >= 0) {
        clock_iso(l->last_success_ms, when);
        buf_json_string(out, when);
    } else {
        buf_puts(out, "null");
    }
    buf_puts(out, ",\"last_error\":");
    if (l->last_error[0] != '\0')
        buf_json_string(out, l->last_error);
    else
        buf_puts(out, "null");
    buf_putc(out, '}');
}

void outbox_status(const struct outbox *o, struct buf *out) {
    buf_putc(out, '[');
    for (unsigned i = 0; i < o->n_lanes; i++) {
        if (i > 0)
            buf_putc(out, ',');
        lane_status(&o->lanes[i], out);
    }
    if (o->n_lanes == 0)
        buf_puts(out,
                 "{\"sink\":\"none\",\"state\":\"ok\",\"backlog\":0,\"backlog_bytes\":0,\"sent\":0,"
                 "\"dropped\":0,\"last_success\":null,\"last_error\":null}");
    buf_putc(out, ']');
}
