/* One sink: gets batch after batch, in order.
 *
 * All went well: pump -> (a turn reads for it) -> found -> pump -> sink->send … on_done(TAKEN) -> next, step_wanted ->
 *     a turn notes the position -> pump. The position is written before the next batch goes: a kill repeats one at most.
 * The sink fails: on_done(RETRY) -> timer -> pump with the same batch; the other sinks go on.
 * It catches up: the cap on draining makes pump() wait.
 * The spool cannot be written to: once the sink has all that is in it, pump() takes the parcel from memory. */
#include <errno.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/outbox_impl.h"
#include "uploader/spool/fault.h"

#define WARN_EVERY_MS 60000
#define NO_MEMORY_MS  1000

static void on_retry(uv_timer_t *t) {
    lane_pump(container_of(t, struct lane, retry));
}

static void wait_ms(struct lane *l, uint64_t ms) {
    (void)uv_timer_start(&l->retry, on_retry, ms, 0); /* the handle is open */
}

/* --- where the next batch comes from --- */

/* The spool has more than the lane; what is not in memory has to be read. */
bool lane_wants(const struct lane *l) {
    return l->started && l->batch == NULL && !l->step_wanted && l->next < l->outbox->view.next &&
           !uv_is_active((const uv_handle_t *)&l->retry);
}

/* A parcel with a number had to be taken back from the disk, or is there. */
bool lane_has(const struct lane *l, const struct parcel *p) {
    return p->number > 0 ? l->next > p->number : (p->taken & 1u << l->i) != 0;
}

static void take(struct lane *l, struct batch *b, uint64_t number, int64_t time_ms) {
    l->batch = b;
    l->number = number;
    l->parcel = NULL;
    l->head_ms = time_ms;
}

/* The wanted record, if it is still at hand. */
static bool take_copy(struct lane *l) {
    for (struct parcel *p = l->outbox->first; p != NULL; p = p->next)
        if (p->written && p->number == l->next && p->batch != NULL) {
            take(l, batch_ref(p->batch), p->number, p->time_ms);
            return true;
        }
    return false;
}

/* The spool does not take it: straight from memory. */
static bool take_waiting(struct lane *l) {
    struct outbox *o = l->outbox;

    if (o->write_delay_ms == 0)
        return false;
    for (struct parcel *p = o->first; p != NULL; p = p->next) {
        if (p->written || p->over || p->batch == NULL || lane_has(l, p))
            continue;
        take(l, batch_ref(p->batch), p->number, p->time_ms);
        if (p->number == 0) {
            l->parcel = p;
            p->sending++;
        }
        return true;
    }
    return false;
}

/* --- the cap on draining --- */

/* 0: it may go now; else so many ms. */
static uint64_t must_wait_ms(struct lane *l) {
    uint64_t now = clock_mono_ms();
    double passed = (double)(now - l->bucket_ms) / 1000;

    l->bucket_ms = now;
    l->bucket += passed * LIMIT_DRAIN_PER_S;
    l->bucket_bytes += passed * LIMIT_DRAIN_BYTES_PER_S;
    if (l->bucket > LIMIT_DRAIN_PER_S)
        l->bucket = LIMIT_DRAIN_PER_S;
    if (l->bucket_bytes > LIMIT_DRAIN_BYTES_PER_S)
        l->bucket_bytes = LIMIT_DRAIN_BYTES_PER_S;
    if (l->bucket >= 1 && l->bucket_bytes >= 0) {
        l->bucket -= 1;
        l->bucket_bytes -= (double)l->batch->len;
        return 0;
    }
    return 1000 / LIMIT_DRAIN_PER_S;
}

void lane_pump(struct lane *l) {
    struct outbox *o = l->outbox;
    uint64_t ms;

    if (l->sending || !l->started || o->closing || uv_is_active((uv_handle_t *)&l->retry))
        return;
    if (l->batch == NULL && !l->step_wanted && !(o->turn_running && l->turn_read)) {
        if (l->next < o->view.next)
            (void)take_copy(l); /* else a turn reads it */
        else
            (void)take_waiting(l);
    }
    if (l->batch == NULL) {
        turn_begin(o);
        return;
    }
    ms = must_wait_ms(l);
    if (ms > 0) {
        wait_ms(l, ms);
        return;
    }
    l->sending = true;
    o->busy++;
    l->sink->ops->send(l->sink, l->batch);
}

void lane_start(struct lane *l) {
    l->started = true;
    if (l->sink->first_ms > 0)
        wait_ms(l, l->sink->first_ms);
    lane_pump(l);
}

void lane_found(struct lane *l) {
    if (l->found_rc == -ENOMEM || l->found_rc == -EMFILE || l->found_rc == -ENFILE) {
        counter_add(COUNTER_OUT_OF_MEMORY, l->found_rc == -ENOMEM);
        if (!l->outbox->closing)
            wait_ms(l, NO_MEMORY_MS);
        return;
    }
    if (l->found_rc == 1) {
        l->next = l->found_number;
        take(l, l->found, l->found_number, l->found_ms);
        l->found = NULL;
        return;
    }
    if (l->found_next > l->next) {
        l->next = l->found_next;
        l->step_wanted = true;
    }
}

/* A lane that had it from memory has it. */
void lane_written(struct lane *l, const struct parcel *p) {
    if ((p->taken & 1u << l->i) != 0 && l->next == p->number) {
        l->next = p->number + 1;
        l->step_wanted = true;
    }
}

/* --- how it ended --- */

static void note_success(struct lane *l) {
    if (l->delay_ms > 0)
        log_info("sink \"%s\" works again after %llu s", l->sink->name,
                 (unsigned long long)((clock_mono_ms() - l->failing_since_ms) / 1000));
    l->delay_ms = 0;
    l->warned = 0;
    l->sent++;
    l->rescued += l->number != 0 && l->number < l->outbox->view.first;
    l->last_success_ms = clock_wall_ms();
    counter_add(COUNTER_BATCHES_SENT, 1);
}

static void note_failure(struct lane *l, const char *error) {
    (void)text_copy(l->last_error, sizeof(l->last_error), error); /* cut is fine */
    counter_add(COUNTER_BATCHES_FAILED, 1);
}

static void wait_and_retry(struct lane *l, const struct sink_result *r) {
    const struct sink_ops *ops = l->sink->ops;

    if (l->delay_ms == 0)
        l->failing_since_ms = clock_mono_ms();
    l->delay_ms = l->delay_ms == 0 ? ops->retry_min_ms : l->delay_ms * 2;
    if (l->delay_ms > ops->retry_max_ms)
        l->delay_ms = ops->retry_max_ms;
    if (log_due(&l->warned, WARN_EVERY_MS))
        log_warn("sink \"%s\": %s; batches wait, tried again every %llu s at most", l->sink->name,
                 l->last_error, (unsigned long long)((ops->retry_max_ms + 999) / 1000));
    wait_ms(l, r->retry_ms > 0 ? r->retry_ms : l->delay_ms);
}

/* The lane has come by its batch. */
static void leave(struct lane *l) {
    struct parcel *p = l->parcel;

    if (p != NULL) {
        p->sending--;
        p->taken |= 1u << l->i;
        if (p->written)
            lane_written(l, p);
    } else {
        l->next = l->number + 1;
        l->step_wanted = true;
    }
    l->parcel = NULL;
    batch_unref(l->batch);
    l->batch = NULL;
}

static void on_done(void *arg, const struct sink_result *r) {
    struct lane *l = arg;
    struct outbox *o = l->outbox;

    FAULT("sink-done");
    l->sending = false;
    o->busy--;
    if (r->verdict == SINK_TAKEN) {
        note_success(l);
        leave(l);
    } else {
        note_failure(l, r->error);
        if (r->verdict == SINK_REFUSED) {
            log_warn("sink \"%s\": batch %llu was refused: %s", l->sink->name,
                     (unsigned long long)l->batch->seq, l->last_error);
            l->delay_ms = 0;
            l->refused++;
            leave(l);
        } else if (!o->closing) {
            wait_and_retry(l, r);
        }
    }
    outbox_settle(o); /* may close us: the others look */
    lane_pump(l);
    turn_begin(o);
    outbox_maybe_closed(o);
}

bool lane_is_empty(const struct lane *l) {
    return l->batch == NULL && !l->step_wanted && l->next >= l->outbox->view.next;
}

void lane_init(struct lane *l, struct outbox *o, unsigned i, struct sink *sink) {
    l->outbox = o;
    l->i = i;
    l->sink = sink;
    sink->done = on_done;
    sink->done_arg = l;
    l->last_success_ms = -1;
    l->bucket = LIMIT_DRAIN_PER_S;
    l->bucket_bytes = LIMIT_DRAIN_BYTES_PER_S;
    l->bucket_ms = clock_mono_ms();
    spool_cursor_init(&l->cursor, 0);
    (void)uv_timer_init(o->loop, &l->retry); /* never fails */
}

void lane_clear(struct lane *l) {
    spool_cursor_clear(&l->cursor);
    batch_unref(l->batch);
    batch_unref(l->found);
    l->sink->ops->free(l->sink);
}

/* --- status --- */

static void put_backlog(const struct lane *l, struct buf *out) {
    const struct outbox *o = l->outbox;
    uint64_t n = o->view.next > l->next ? o->view.next - l->next : 0;
    uint64_t bytes = n > 0 ? l->ahead_bytes : 0;
    double lag;

    for (const struct parcel *p = o->first; p != NULL; p = p->next)
        if (!p->written && !p->over && !lane_has(l, p)) {
            n++;
            bytes += p->batch != NULL ? p->batch->len : 0;
        }
    buf_puts(out, ",\"backlog\":");
    buf_u64(out, n);
    buf_puts(out, ",\"backlog_bytes\":");
    buf_u64(out, bytes);
    buf_puts(out, ",\"lag\":");
    lag = (double)(clock_wall_ms() - l->head_ms) / 1000;
    if (n > 0 && l->head_ms <= 0) /* how old the first one is will be known when it has been read */
        buf_puts(out, "null");
    else
        buf_number(out, n > 0 && lag > 0 ? lag : 0);
}

void lane_status(const struct lane *l, struct buf *out) {
    char when[CLOCK_ISO_BYTES];
    uint64_t dropped = l->spool_dropped + l->dropped + l->refused;

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
    buf_u64(out, dropped > l->rescued ? dropped - l->rescued : 0);
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
