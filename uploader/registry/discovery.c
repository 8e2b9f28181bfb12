/* Happy path: start → on_timer → find() → (minutes) → on_done → hubs → `changed` → plan → on_timer → …
 * It fails by: no answer or a bad one (asked again with growing pauses, the list stays), an index that goes backwards or is 0
 * (asked anew), answers that come all the time (the bucket). */
#include "uploader/registry/discovery.h"

#include <errno.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define EVERY_MS      30000 /* where the registry cannot wait for a change */
#define WAIT_S        120   /* Consul adds up to a sixteenth */
#define WAIT_TOTAL_MS (WAIT_S * 1000 + WAIT_S * 1000 / 16 + 10000)
#define ASK_MS        15000
#define TOKEN_MS      15000 /* four a minute */
#define TOKENS        2
#define RETRY_LEAST   15000
#define RETRY_MOST    60000
#define PATH_BYTES    1024
#define WARN_EVERY_MS 600000

struct discovery {
    struct registry_link *link;
    const struct dialect *dialect;
    char service[64];
    uv_timer_t timer;
    bool open, closing;
    struct http_call *call; /* under way, or NULL */
    struct registry_ask ask;
    unsigned server;
    uint64_t index; /* Consul's; 0: ask for an answer at once */
    struct schedule_bucket bucket;
    struct schedule_random random;
    unsigned failures; /* in a row */
    struct hubs hubs;
    uint64_t warned;
    int64_t success_ms; /* wall clock; 0 never */
    char error[REGISTRY_WORDS];
    void (*changed)(void *arg);
    void *arg;
    void (*closed)(void *arg);
    void *closed_arg;
};

static void plan(struct discovery *d, uint64_t wait_ms);

/* --- closing --- */

static void maybe_closed(struct discovery *d) {
    void (*closed)(void *arg) = d->closed;
    void *closed_arg = d->closed_arg;

    if (d->call != NULL || d->open)
        return;
    buf_clear(&d->ask.path);
    mem_free(d);
    closed(closed_arg);
}

static void on_timer_closed(uv_handle_t *handle) {
    struct discovery *d = handle->data;

    d->open = false;
    maybe_closed(d);
}

void discovery_close(struct discovery *d, void (*closed)(void *arg), void *arg) {
    d->closing = true;
    d->closed = closed;
    d->closed_arg = arg;
    if (d->call != NULL)
        http_cancel(d->call);
    uv_close((uv_handle_t *)&d->timer, on_timer_closed);
}

/* --- an answer --- */

uint64_t discovery_next_index(uint64_t before, const char *header) {
    uint64_t now;

    if (header == NULL || text_u64(header, &now) != 0 || now == 0)
        return before == 0 ? 0 : 1;
    return now < before ? 0 : now;
}

static void take_hubs(struct discovery *d, const struct hubs *answer) {
    if (!hubs_update(&d->hubs, answer, uv_now(d->timer.loop)))
        return;
    log_info("%u %s known", d->hubs.n, d->hubs.n == 1 ? "hub is" : "hubs are");
    if (d->changed != NULL)
        d->changed(d->arg);
}

static void good_answer(struct discovery *d, const struct hubs *answer) {
    d->failures = 0;
    d->success_ms = clock_wall_ms();
    take_hubs(d, answer);
    plan(d, d->dialect->blocks ? 0 : EVERY_MS);
}

static void bad_answer(struct discovery *d, const char *words) {
    char name[URL_SHOW_BYTES];

    counter_add(COUNTER_DISCOVERY_FAILED, 1);
    d->failures++;
    d->index = 0;
    (void)text_copy(d->error, sizeof(d->error), words); /* of the same size */
    registry_link_name(d->link, d->server, name);
    if (log_due(&d->warned, WARN_EVERY_MS))
        log_warn("%s does not say where hubs are: %s; %u are known from before", name, words,
                 d->hubs.n);
    d->server = (d->server + 1) % registry_link_servers(d->link);
    plan(d, schedule_backoff(&d->random, d->failures + 1, RETRY_LEAST, RETRY_MOST));
}

static void on_done(void *arg, const struct http_reply *reply) {
    struct discovery *d = arg;
    char words[REGISTRY_WORDS], index[32];
    struct hubs answer;

    d->call = NULL;
    if (d->closing) {
        maybe_closed(d);
        return;
    }
    hubs_init(&answer, d->hubs.key);
    registry_link_look(d->link, reply, words);
    if (reply->rc == 0 && reply->status == 200) {
        if (d->dialect->hubs(reply->body, reply->len, &answer) != 0) {
            bad_answer(d, "its answer is not the list that was asked for");
            return;
        }
        d->index = discovery_next_index(
            d->index,
            http_reply_header(reply, "x-consul-index", index, sizeof(index)) ? index : NULL);
        good_answer(d, &answer);
    } else if (reply->rc == 0 && reply->status == 404) {
        good_answer(d, &answer); /* Eureka: no such application */
    } else {
        bad_answer(d, words);
    }
}

/* --- a question --- */

static void on_timer(uv_timer_t *timer) {
    struct discovery *d = timer->data;
    bool wait = d->dialect->blocks && d->index != 0;
    int rc;

    if (d->call != NULL || d->closing)
        return;
    schedule_bucket_take(&d->bucket, uv_now(timer->loop));
    counter_add(COUNTER_DISCOVERY_QUERIES, 1);
    buf_reset(&d->ask.path);
    d->ask.path.err = 0;
    d->dialect->find(&d->ask.path, d->service, registry_link_scope(d->link), d->index, WAIT_S);
    rc = registry_link_send(d->link, d->server, &d->ask, wait ? WAIT_TOTAL_MS : ASK_MS, on_done, d,
                            &d->call);
    if (rc == 0)
        return;
    d->call = NULL;
    bad_answer(d, strerror(-rc));
}

static void plan(struct discovery *d, uint64_t wait_ms) {
    uint64_t now = uv_now(d->timer.loop), at = schedule_bucket_at(&d->bucket, now + wait_ms);

    if (!d->closing)
        (void)uv_timer_start(&d->timer, on_timer, at - now, 0); /* the handle is open */
}

/* --- making, using, telling --- */

int discovery_new(struct discovery **ret, struct registry_link *link, const char *service,
                  uint64_t key, void (*changed)(void *arg), void *arg) {
    struct discovery *d = mem_calloc(1, sizeof(*d));
    int rc;

    if (d == NULL)
        return -ENOMEM;
    d->link = link;
    d->dialect = registry_link_dialect(link);
    d->ask.method = "GET";
    d->bucket = (struct schedule_bucket){TOKEN_MS, TOKENS, 0};
    d->random.state = key;
    d->changed = changed;
    d->arg = arg;
    d->timer.data = d;
    buf_init(&d->ask.path, PATH_BYTES);
    hubs_init(&d->hubs, key);
    rc = text_copy(d->service, sizeof(d->service), service)
             ? uv_timer_init(registry_link_loop(link), &d->timer)
             : -ENAMETOOLONG;
    if (rc != 0) {
        mem_free(d);
        return rc;
    }
    d->open = true;
    *ret = d;
    return 0;
}

/* At once: without a hub nothing is delivered, and what is delivered first is spread already. */
int discovery_start(struct discovery *d) {
    uv_update_time(d->timer.loop);
    plan(d, 0);
    return 0;
}

const char *discovery_pick(const struct discovery *d) {
    return hubs_pick(&d->hubs, uv_now(d->timer.loop));
}

bool discovery_failed(struct discovery *d, const char *url) {
    bool other = hubs_failed(&d->hubs, url, uv_now(d->timer.loop));

    counter_add(COUNTER_HUB_FAILOVERS, other);
    return other;
}

void discovery_worked(struct discovery *d, const char *url) {
    hubs_worked(&d->hubs, url);
}

void discovery_status(const struct discovery *d, struct buf *out) {
    uint64_t now = uv_now(d->timer.loop);
    char when[CLOCK_ISO_BYTES];

    buf_puts(out, "{\"service\":");
    buf_json_string(out, d->service);
    buf_printf(out, ",\"state\":\"%s\",\"last_success\":",
               d->failures > 0      ? "failing"
               : d->success_ms == 0 ? "waiting"
                                    : "ok");
    clock_iso(d->success_ms, when);
    if (d->success_ms != 0)
        buf_json_string(out, when);
    else
        buf_puts(out, "null");
    buf_puts(out, ",\"last_error\":");
    if (d->error[0] != '\0')
        buf_json_string(out, d->error);
    else
        buf_puts(out, "null");
    buf_puts(out, ",\"hubs\":[");
    for (unsigned i = 0; i < d->hubs.n; i++) {
        buf_puts(out, i > 0 ? ",{\"url\":" : "{\"url\":");
        buf_json_string(out, d->hubs.list[i].url);
        buf_printf(out, ",\"state\":\"%s\"}",
                   d->hubs.list[i].failed_until_ms > now ? "failed" : "ok");
    }
    buf_puts(out, "]}");
}
