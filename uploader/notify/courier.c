/* All went well: courier_kick -> notes_read … on_text -> target send … on_done -> notes_settle -> courier_kick.
 * Ways to fail: try_later(), which is also where an error is logged, once in LOG_EVERY_MS. */
#include "uploader/notify/courier.h"

#include <errno.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define LOG_EVERY_MS 300000

struct courier {
    struct target *target;
    struct notes *notes;
    unsigned bit;
    uv_timer_t timer; /* active: a failure is waited off */
    struct notes_reading reading;
    struct note *note; /* read or sent now; NULL with busy: a try without a message */
    bool opened, started, busy, in_reading, probe, closing;
    bool timer_closed, target_closed;
    unsigned failures; /* in a row */
    uint64_t sent, refused;
    int64_t last_success_ms; /* -1 never */
    char last_error[TARGET_ERROR_BYTES];
    uint64_t last_log;
    void (*closed)(void *arg);
    void *closed_arg;
};

static void on_done(void *arg, const struct target_result *r);

int courier_new(struct courier **ret, struct target *t, unsigned bit) {
    struct courier *c = mem_calloc(1, sizeof(*c));

    if (c == NULL)
        return -ENOMEM;
    c->target = t;
    c->bit = bit;
    c->last_success_ms = -1;
    c->probe = t->ops->probes;
    t->done = on_done;
    t->arg = c;
    *ret = c;
    return 0;
}

static void ignore(void *arg) {
    (void)arg;
}

void courier_free(struct courier *c) {
    if (c == NULL)
        return;
    c->target->ops->close(c->target, ignore, NULL);
    mem_free(c);
}

void courier_open(struct courier *c, uv_loop_t *loop, struct notes *notes) {
    c->notes = notes;
    (void)uv_timer_init(loop, &c->timer); /* cannot fail */
}

const char *courier_name(const struct courier *c) {
    return c->target->name;
}

/* --- a message ---------------------------------------------------------------------------------- */

static void put_down(struct courier *c, bool over) {
    struct note *n = c->note;

    c->busy = false;
    c->note = NULL;
    mem_free(c->reading.text);
    c->reading.text = NULL;
    if (n != NULL)
        notes_settle(n, c->bit, over); /* may begin the next */
}

static void on_timer(uv_timer_t *t) {
    courier_kick(container_of(t, struct courier, timer));
}

static void try_later(struct courier *c, enum answer a, int64_t retry_after_ms, const char *error) {
    uint64_t ms = answer_wait_ms(a, ++c->failures, retry_after_ms);

    counter_add(COUNTER_NOTIFY_FAILED, 1);
    if (c->failures == 1 || strcmp(error, c->last_error) != 0 ||
        log_due(&c->last_log, LOG_EVERY_MS)) {
        log_warn("notify: %s: %s; tried again in %llu s, nothing is lost", c->target->name, error,
                 (unsigned long long)((ms + 999) / 1000));
        c->last_log = clock_mono_ms();
    }
    (void)text_copy(c->last_error, sizeof(c->last_error), error); /* cut is fine */
    (void)uv_timer_start(&c->timer, on_timer, ms, 0);             /* the handle is open */
    put_down(c, false);
}

static void arrived(struct courier *c) {
    if (c->failures > 0)
        log_info("notify: %s takes messages again", c->target->name);
    c->failures = 0;
    if (c->note != NULL) {
        c->sent++;
        c->last_success_ms = clock_wall_ms();
        counter_add(COUNTER_NOTIFY_SENT, 1);
    }
    put_down(c, true);
}

static void refused(struct courier *c, const char *error) {
    c->refused++;
    counter_add(COUNTER_NOTIFY_REFUSED, 1);
    log_warn("notify: %s will never take the message %s: %s; it goes without", c->target->name,
             notes_id(c->note), error);
    (void)text_copy(c->last_error, sizeof(c->last_error), error);
    c->failures = 0;
    put_down(c, true);
}

static void on_done(void *arg, const struct target_result *r) {
    struct courier *c = arg;

    c->probe = false;
    if (r->returned)
        counter_add(COUNTER_NOTIFY_RETURNED, 1);
    if (r->answer == ANSWER_TAKEN) {
        arrived(c);
    } else if (r->answer == ANSWER_PARK && c->note != NULL) {
        refused(c, r->error);
    } else {
        c->probe = c->note == NULL;
        try_later(c, r->answer, r->retry_after_ms, r->error);
    }
    courier_kick(c);
}

static void maybe_closed(struct courier *c);

static void send_it(struct courier *c, const char *id, const char *body, size_t len) {
    int rc = c->target->ops->send(c->target, id, body, len);
    char error[64];

    if (rc == 0)
        return;
    (void)snprintf(error, sizeof(error), "cannot begin: %s", strerror(-rc));
    try_later(c, ANSWER_RETRY, -1, error);
}

static void on_text(struct notes_reading *r) {
    struct courier *c = container_of(r, struct courier, reading);
    char error[64];

    c->in_reading = false;
    if (c->closing) {
        maybe_closed(c);
    } else if (r->rc == 0) {
        send_it(c, notes_id(r->note), r->text + r->body, r->len);
    } else if (r->rc == -EBADMSG || r->rc == -ENOENT) {
        put_down(c, true); /* notes.c has said it */
    } else {
        (void)snprintf(error, sizeof(error), "a message cannot be read from disk: %s",
                       strerror(-r->rc));
        try_later(c, ANSWER_RETRY, -1, error);
    }
}

void courier_kick(struct courier *c) {
    struct note *n;

    if (!c->started || c->closing || c->busy || uv_is_active((uv_handle_t *)&c->timer))
        return;
    n = notes_next(c->notes, c->bit);
    c->busy = n != NULL || c->probe;
    c->note = n;
    if (n != NULL) {
        c->in_reading = true;
        notes_read(&c->reading, n, on_text);
    } else if (c->probe) {
        send_it(c, NULL, NULL, 0);
    }
}

void courier_start(struct courier *c) {
    c->started = true;
    courier_kick(c);
}

/* --- closing ------------------------------------------------------------------------------------ */

static void maybe_closed(struct courier *c) {
    void (*closed)(void *arg) = c->closed;
    void *arg = c->closed_arg;

    if (!c->timer_closed || !c->target_closed || c->in_reading)
        return;
    put_down(c, false);
    mem_free(c);
    closed(arg);
}

static void on_timer_closed(uv_handle_t *h) {
    struct courier *c = container_of((uv_timer_t *)h, struct courier, timer);

    c->timer_closed = true;
    maybe_closed(c);
}

static void on_target_closed(void *arg) {
    struct courier *c = arg;

    c->target_closed = true;
    maybe_closed(c);
}

void courier_close(struct courier *c, void (*closed)(void *arg), void *arg) {
    c->closing = true;
    c->closed = closed;
    c->closed_arg = arg;
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
    c->target->ops->close(c->target, on_target_closed, c);
}

/* --- status ------------------------------------------------------------------------------------- */

void courier_write_status(const struct courier *c, struct buf *out) {
    char when[CLOCK_ISO_BYTES];
    const char *why = NULL, *state = c->target->ops->state(c->target, &why);

    if (c->failures > 0 && why == NULL)
        state = "failing";
    else if (c->busy && why == NULL)
        state = "sending";
    buf_puts(out, "{\"target\":");
    buf_json_string(out, c->target->name);
    buf_printf(out, ",\"state\":\"%s\",\"backlog\":", state != NULL ? state : "idle");
    buf_u64(out, notes_backlog(c->notes, c->bit));
    buf_puts(out, ",\"sent\":");
    buf_u64(out, c->sent);
    buf_puts(out, ",\"refused\":");
    buf_u64(out, c->refused);
    buf_puts(out, ",\"last_success\":");
    if (c->last_success_ms >= 0) {
        clock_iso(c->last_success_ms, when);
        buf_json_string(out, when);
    } else {
        buf_puts(out, "null");
    }
    buf_puts(out, ",\"last_error\":");
    if (why == NULL && c->last_error[0] != '\0')
        why = c->last_error;
    if (why != NULL)
        buf_json_string(out, why);
    else
        buf_puts(out, "null");
    buf_putc(out, '}');
}
