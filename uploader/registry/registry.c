/* Happy path: start → (spread) → on_timer → ask REGISTER → on_done → plan → on_timer → ask PASS → on_done → plan → …
 * It fails by: no answer, an answer that is no yes (the schedule says when again; with several servers the next one is asked at
 * once), a registry that does not know us any more (registered again at once).
 * Leaving: what is under way may end for LEAVE_PATIENCE_MS, then it is cancelled; LEAVE is sent; its end, or the timer, is it. */
#include "uploader/registry/registry.h"

#include <errno.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

/* Longer than the registry is slow on a bad day, and still two of them within the 30 s of our TTL. */
#define ASK_MS            15000
#define ASK_ONE_OF_MS     5000 /* when there is another server to ask */
#define LEAVE_PATIENCE_MS 300
#define BODY_BYTES        8192
#define PATH_BYTES        2048
#define WARN_EVERY_MS     600000

struct registry {
    struct registry_link *link;
    const struct dialect *dialect;
    struct schedule schedule;
    struct registration now;
    uv_timer_t timer;
    struct http_call *call; /* under way, or NULL */
    struct registry_ask ask;
    enum schedule_action action;
    unsigned server, tried; /* the one that is asked; how many were, for this action */
    bool open;              /* the timer's handle */
    bool running;           /* registry_start() was called */
    bool leaving, left, closing;
    bool failing;         /* the last answer was none, or no yes */
    bool told;            /* the registry may know of us: a registration was sent */
    uint64_t leave_by_ms; /* uv_now */
    uint64_t warned;
    int64_t success_ms; /* wall clock; 0 never */
    char error[REGISTRY_WORDS];
    uint64_t registrations, passes, failures;
    void (*left_cb)(void *arg);
    void *left_arg;
    void (*closed)(void *arg);
    void *closed_arg;
};

static void plan(struct registry *r);
static void send_leave(struct registry *r);

/* --- leaving and closing --- */

static void say_left(struct registry *r) {
    void (*cb)(void *arg) = r->left_cb;

    r->left = true;
    r->left_cb = NULL;
    if (!r->closing)
        (void)uv_timer_stop(&r->timer);
    if (cb != NULL)
        cb(r->left_arg);
}

static void free_registry(struct registry *r) {
    void (*closed)(void *arg) = r->closed;
    void *closed_arg = r->closed_arg;

    buf_clear(&r->ask.path);
    buf_clear(&r->ask.body);
    mem_free(r);
    closed(closed_arg);
}

static void maybe_closed(struct registry *r) {
    if (r->call == NULL && !r->open)
        free_registry(r);
}

static void on_timer_closed(uv_handle_t *handle) {
    struct registry *r = handle->data;

    r->open = false;
    if (r->left_cb != NULL)
        say_left(r);
    maybe_closed(r);
}

void registry_close(struct registry *r, void (*closed)(void *arg), void *arg) {
    r->closing = true;
    r->closed = closed;
    r->closed_arg = arg;
    if (r->call != NULL)
        http_cancel(r->call);
    uv_close((uv_handle_t *)&r->timer, on_timer_closed);
}

/* --- one question --- */

static void note_success(struct registry *r) {
    char name[URL_SHOW_BYTES];
    bool news = r->failing || r->success_ms == 0;

    r->success_ms = clock_wall_ms();
    r->failing = false;
    if (!news)
        return;
    registry_link_name(r->link, r->server, name);
    log_info("registered at %s as %s", name, r->now.id);
}

static void note_failure(struct registry *r, const char *words) {
    char name[URL_SHOW_BYTES];

    counter_add(COUNTER_REGISTRY_FAILED, 1);
    r->failures++;
    r->failing = true;
    (void)text_copy(r->error, sizeof(r->error), words); /* of the same size */
    registry_link_name(r->link, r->server, name);
    if (log_due(&r->warned, WARN_EVERY_MS))
        log_warn("registry %s: %s; tried again, samples are not affected", name, words);
    else
        log_debug("registry %s: %s", name, words);
}

static void count_success(struct registry *r) {
    if (r->action == SCHEDULE_REGISTER) {
        counter_add(COUNTER_REGISTRATIONS, 1);
        r->registrations++;
    } else {
        counter_add(COUNTER_REGISTRY_PASSES, 1);
        r->passes++;
    }
}

static enum schedule_answer judge(const struct registry *r, const struct http_reply *reply) {
    if (reply->rc != 0)
        return reply->connected ? SCHEDULE_SILENT : SCHEDULE_UNREACHED;
    return r->dialect->judge(
        r->action == SCHEDULE_REGISTER ? REGISTRY_ASK_REGISTER : REGISTRY_ASK_PASS, reply->status);
}

/* A server that does not answer, or has trouble of its own: another one may do better. */
static bool ask_another(struct registry *r, enum schedule_answer answer, long status) {
    if (answer == SCHEDULE_DONE || answer == SCHEDULE_FORGOTTEN ||
        (answer == SCHEDULE_REFUSED && status < 500))
        return false;
    r->server = (r->server + 1) % registry_link_servers(r->link);
    return ++r->tried < registry_link_servers(r->link);
}

static bool ask(struct registry *r);

static void settle(struct registry *r, enum schedule_answer answer) {
    schedule_answered(&r->schedule, r->action, answer, uv_now(r->timer.loop));
    plan(r);
}

static void on_done(void *arg, const struct http_reply *reply) {
    struct registry *r = arg;
    enum schedule_answer answer = judge(r, reply);
    char words[REGISTRY_WORDS];

    r->call = NULL;
    if (r->closing) {
        maybe_closed(r);
        return;
    }
    registry_link_look(r->link, reply, words);
    if (answer == SCHEDULE_DONE) {
        count_success(r);
        note_success(r);
    } else if (answer == SCHEDULE_FORGOTTEN) {
        counter_add(COUNTER_REGISTRY_FORGOTTEN, r->schedule.registered);
        (void)snprintf(r->error, sizeof(r->error),
                       "it did not know this container any more (%.150s)", words);
        if (r->schedule.registered)
            log_info("the registry has forgotten this container, which registers again");
    } else if (!r->leaving) {
        note_failure(r, words);
    }
    if (r->leaving)
        send_leave(r); /* unless it is too late */
    else if (!ask_another(r, answer, reply->status) || !ask(r))
        settle(r, answer);
}

static void make_ask(struct registry *r, enum registry_question what) {
    buf_reset(&r->ask.path);
    buf_reset(&r->ask.body);
    r->ask.path.err = r->ask.body.err = 0;
    r->dialect->ask(what, &r->now, registry_link_scope(r->link), &r->ask);
}

static bool ask(struct registry *r) {
    bool registering = r->action == SCHEDULE_REGISTER;
    int rc;

    make_ask(r, registering ? REGISTRY_ASK_REGISTER : REGISTRY_ASK_PASS);
    rc = registry_link_send(r->link, r->server, &r->ask,
                            registry_link_servers(r->link) > 1 ? ASK_ONE_OF_MS : ASK_MS, on_done, r,
                            &r->call);
    if (rc == 0) {
        r->told = r->told || registering;
        return true;
    }
    r->call = NULL;
    note_failure(r, strerror(-rc));
    return false;
}

static void on_timer(uv_timer_t *timer) {
    struct registry *r = timer->data;
    uint64_t now = uv_now(timer->loop);

    if (schedule_next(&r->schedule, now, &r->action) > now) {
        plan(r);
        return;
    }
    schedule_sent(&r->schedule, r->action, now);
    r->tried = 0;
    if (!ask(r))
        settle(r, SCHEDULE_UNREACHED);
}

static void plan(struct registry *r) {
    uint64_t now = uv_now(r->timer.loop);
    enum schedule_action action;
    uint64_t at = schedule_next(&r->schedule, now, &action);

    if (r->call != NULL || r->leaving || r->closing || !r->running)
        return;
    (void)uv_timer_start(&r->timer, on_timer, at > now ? at - now : 0, 0); /* the handle is open */
}

/* --- leaving --- */

static void on_left(void *arg, const struct http_reply *reply) {
    struct registry *r = arg;
    char words[REGISTRY_WORDS];

    r->call = NULL;
    if (r->closing)
        maybe_closed(r);
    if (r->closing || r->left)
        return;
    if (reply->rc == 0 && r->dialect->judge(REGISTRY_ASK_LEAVE, reply->status) == SCHEDULE_DONE) {
        log_info("taken out of the registry");
    } else {
        registry_link_look(r->link, reply, words);
        note_failure(r, words);
    }
    say_left(r);
}

static void on_leave_end(uv_timer_t *timer) {
    struct registry *r = timer->data;

    if (r->told)
        log_warn("the registry did not answer in time: the entry there stays until it lapses");
    if (r->call != NULL)
        http_cancel(r->call);
    say_left(r);
}

static void on_leave_impatient(uv_timer_t *timer) {
    struct registry *r = timer->data;

    if (r->call != NULL)
        http_cancel(r->call); /* on_done() goes on */
}

static void send_leave(struct registry *r) {
    uint64_t now = uv_now(r->timer.loop), left_ms = 0;

    if (r->left)
        return;
    if (r->told && now < r->leave_by_ms) {
        left_ms = r->leave_by_ms - now;
        make_ask(r, REGISTRY_ASK_LEAVE);
        if (registry_link_send(r->link, r->server, &r->ask, (uint32_t)left_ms, on_left, r,
                               &r->call) != 0) {
            r->call = NULL;
            left_ms = 0;
        }
    }
    (void)uv_timer_start(&r->timer, on_leave_end, left_ms, 0); /* the handle is open */
}

void registry_leave(struct registry *r, void (*left)(void *arg), void *arg) {
    r->leaving = true;
    r->left_cb = left;
    r->left_arg = arg;
    r->leave_by_ms = uv_now(r->timer.loop) + LIMIT_REGISTRY_LEAVE_MS;
    if (r->call == NULL)
        send_leave(r);
    else /* a registration that is on its way would come after a LEAVE that overtakes it */
        (void)uv_timer_start(&r->timer, on_leave_impatient, LEAVE_PATIENCE_MS, 0);
}

/* --- making, describing, telling --- */

int registry_new(struct registry **ret, struct registry_link *link, const char *app,
                 const char *instance, const char *version) {
    struct registry *r = mem_calloc(1, sizeof(*r));
    int rc;

    if (r == NULL)
        return -ENOMEM;
    r->link = link;
    r->dialect = registry_link_dialect(link);
    r->timer.data = r;
    buf_init(&r->ask.path, PATH_BYTES);
    buf_init(&r->ask.body, BODY_BYTES);
    registration_id(r->now.id, app, instance);
    /* What is longer is cut: it is for the eye. The id is whole. */
    (void)text_copy(r->now.app, sizeof(r->now.app), app);
    (void)text_copy(r->now.instance, sizeof(r->now.instance), instance);
    (void)text_copy(r->now.version, sizeof(r->now.version), version);
    schedule_begin(&r->schedule, r->dialect->rules, schedule_key(app, instance), 0);
    rc = uv_timer_init(registry_link_loop(link), &r->timer);
    if (rc != 0) {
        mem_free(r);
        return rc;
    }
    r->open = true;
    *ret = r;
    return 0;
}

void registry_describe(struct registry *r, const struct registry_facts *facts) {
    struct registration next = r->now;

    (void)text_copy(next.address, sizeof(next.address), facts->address);
    (void)text_copy(next.node, sizeof(next.node), facts->node);
    next.port = facts->port;
    next.commands = facts->commands;
    next.workers = facts->workers;
    if (strcmp(next.address, r->now.address) == 0 && strcmp(next.node, r->now.node) == 0 &&
        next.port == r->now.port && next.commands == r->now.commands &&
        next.workers == r->now.workers)
        return;
    r->now = next;
    schedule_changed(&r->schedule);
    plan(r);
}

int registry_start(struct registry *r) {
    uv_loop_t *loop = registry_link_loop(r->link);

    uv_update_time(loop); /* much may have happened since the loop last turned, or it never did */
    schedule_begin(&r->schedule, r->dialect->rules, schedule_key(r->now.app, r->now.instance),
                   uv_now(loop));
    r->running = true;
    plan(r);
    return 0;
}

bool registry_is_registered(const struct registry *r) {
    return r->schedule.registered;
}

static const char *state(const struct registry *r) {
    if (r->leaving)
        return "left";
    if (r->failing)
        return "failing";
    return r->schedule.registered ? "registered" : "waiting";
}

static void put_time(struct buf *out, const char *key, int64_t wall_ms) {
    char when[CLOCK_ISO_BYTES];

    clock_iso(wall_ms, when);
    if (wall_ms == 0)
        buf_printf(out, ",\"%s\":null", key);
    else
        buf_printf(out, ",\"%s\":\"%s\"", key, when);
}

void registry_status(const struct registry *r, struct buf *out) {
    char name[URL_SHOW_BYTES];

    registry_link_name(r->link, r->server, name);
    buf_puts(out, "\"registry\":");
    buf_json_string(out, name);
    buf_printf(out, ",\"state\":\"%s\",\"service\":\"" REGISTRY_SERVICE "\",\"id\":", state(r));
    buf_json_string(out, r->now.id);
    buf_puts(out, ",\"address\":");
    if (r->now.address[0] != '\0')
        buf_json_string(out, r->now.address);
    else
        buf_puts(out, "null");
    buf_puts(out, ",\"port\":");
    if (r->now.port != 0)
        buf_u64(out, r->now.port);
    else
        buf_puts(out, "null");
    buf_puts(out, ",\"registrations\":");
    buf_u64(out, r->registrations);
    buf_puts(out, ",\"passes\":");
    buf_u64(out, r->passes);
    buf_puts(out, ",\"failures\":");
    buf_u64(out, r->failures);
    buf_puts(out, ",\"connections\":");
    buf_u64(out, registry_link_connections(r->link));
    put_time(out, "last_success", r->success_ms);
    buf_puts(out, ",\"last_error\":");
    if (r->error[0] != '\0')
        buf_json_string(out, r->error);
    else
        buf_puts(out, "null");
}
