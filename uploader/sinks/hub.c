/* All went well: remote_send … on_answer (its commands) -> taken.
 * Nothing to say: on_idle -> http_send … on_idle_reply (its commands). A batch that comes meanwhile waits for that: one
 * connection. */
#include "uploader/sinks/hub.h"

#include <errno.h>
#include <jansson.h>

#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "uploader/sinks/remote.h"

#define JITTER_MS  1000
#define HEAD_BYTES 131072

struct hub {
    struct remote remote;
    sink_command_cb command;
    void *command_arg;
    uv_timer_t idle;
    struct http_call *call; /* of the empty batch */
    struct batch *held;     /* waits for its end */
    struct body empty;
    unsigned idle_failures;
    bool started, closing, timer_closed;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* --- commands ----------------------------------------------------------------------------------- */

static bool take_command(struct hub *h, const json_t *o) {
    char *text;
    bool good;

    if (h->command == NULL || !json_is_string(json_object_get(o, "id")) ||
        !json_is_string(json_object_get(o, "action")))
        return false;
    text = json_dumps(o, JSON_COMPACT);
    good = text != NULL && strlen(text) <= LIMIT_HUB_COMMAND_BYTES;
    if (good)
        h->command(h->command_arg, text, strlen(text));
    mem_free(text); /* jansson has our allocator */
    return good;
}

static void take_commands(struct hub *h, const struct http_reply *reply) {
    json_t *o, *list, *one;
    size_t i;

    if (reply->rc != 0 || reply->status / 100 != 2 || reply->truncated || reply->len == 0)
        return;
    o = json_loadb(reply->body, reply->len, JSON_REJECT_DUPLICATES, NULL);
    list = json_object_get(o, "commands");
    json_array_foreach(list, i, one) {
        if (i < LIMIT_HUB_COMMANDS && take_command(h, one))
            counter_add(COUNTER_HUB_COMMANDS, 1);
        else
            counter_add(COUNTER_HUB_COMMANDS_REFUSED, 1);
    }
    json_decref(o);
}

/* --- the empty batch ---------------------------------------------------------------------------- */

static void on_idle(uv_timer_t *t);

static void wait_idle(struct hub *h) {
    uint64_t ms = HUB_IDLE_MS - JITTER_MS / 2 + answer_random(0, JITTER_MS);

    if (h->idle_failures > 0)
        ms += answer_wait_ms(ANSWER_RETRY, h->idle_failures, -1);
    if (h->started && !h->closing)
        (void)uv_timer_start(&h->idle, on_idle, ms, 0); /* the handle is open */
}

static void maybe_closed(struct hub *h) {
    if (h->timer_closed && h->call == NULL)
        h->closed(h->closed_arg);
}

static void on_idle_reply(void *arg, const struct http_reply *reply) {
    struct hub *h = arg;
    struct batch *held = h->held;
    bool good = reply->rc == 0 && reply->status / 100 == 2;

    h->call = NULL;
    h->held = NULL;
    h->idle_failures = good ? 0 : h->idle_failures + 1;
    if (h->remote.hubs != NULL && reply->rc == 0 && reply->status < 500)
        h->remote.hubs->worked(h->remote.hubs->arg, h->remote.hub);
    else if (h->remote.hubs != NULL && reply->rc != -ECANCELED)
        (void)h->remote.hubs->failed(h->remote.hubs->arg, h->remote.hub);
    take_commands(h, reply);
    if (h->closing) {
        maybe_closed(h);
    } else if (held != NULL) {
        remote_send(&h->remote.base, held);
    } else {
        wait_idle(h);
    }
    batch_unref(held);
}

static void on_idle(uv_timer_t *t) {
    struct hub *h = container_of(t, struct hub, idle);
    static const char *const headers[] = {"Content-Type: application/x-ndjson",
                                          "Content-Encoding: gzip", NULL};
    struct http_request_out rq = {.headers = headers,
                                  .body = h->empty.out.data,
                                  .body_len = h->empty.out.len,
                                  .done = on_idle_reply,
                                  .arg = h};
    char url[URL_SHOW_BYTES];

    if (h->remote.batch != NULL || h->remote.hurried ||
        remote_address(&h->remote, "/v1/batches", &rq, url) != 0 ||
        http_send(h->remote.http, &rq, &h->call) != 0)
        wait_idle(h);
}

/* {"pillion":1,"app":…,"instance":…,"boot":…,"seq":0,"records":0} */
static int write_empty(struct hub *h, const struct sink_env *env) {
    struct buf line;
    int rc;

    buf_init(&line, HEAD_BYTES);
    buf_puts(&line, "{\"pillion\":1,\"app\":");
    buf_json_string(&line, env->app != NULL ? env->app : "");
    buf_puts(&line, ",\"instance\":");
    buf_json_string(&line, env->instance != NULL ? env->instance : "");
    buf_puts(&line, ",\"boot\":");
    buf_json_string(&line, env->boot);
    buf_puts(&line, ",\"seq\":0,\"records\":0}\n");
    body_begin(&h->empty, HEAD_BYTES);
    if (line.err == 0)
        body_add(&h->empty, line.data, line.len);
    rc = body_end(&h->empty);
    rc = line.err != 0 ? line.err : rc;
    buf_clear(&line);
    return rc;
}

/* --- batches ------------------------------------------------------------------------------------ */

static void hub_begin(struct remote *r, const struct records_head *head, unsigned stage) {
    (void)stage;
    body_add(&r->body, head->line, strlen(head->line));
    body_add(&r->body, "\n", 1);
}

static int hub_add(struct remote *r, const struct records_head *head, unsigned stage, uint32_t line,
                   const char *text, size_t len) {
    (void)head;
    (void)stage;
    (void)line;
    body_add(&r->body, text, len);
    body_add(&r->body, "\n", 1);
    return 1;
}

static const char *hub_path(struct remote *r, unsigned stage) {
    (void)r;
    (void)stage;
    return "/v1/batches";
}

static void hub_dress(struct remote *r, struct http_request_out *rq) {
    char name[RECORDS_KEY_BYTES + 32];

    (void)rq;
    remote_request_name(r, name, sizeof(name));
    remote_header(r, "Idempotency-Key", name);
}

static enum answer hub_judge(struct remote *r, const struct http_reply *reply, char *error,
                             size_t size) {
    (void)error;
    (void)size;
    take_commands((struct hub *)(void *)r, reply); /* first member of first member */
    return answer_meaning(reply);
}

static void hub_send(struct sink *s, struct batch *b) {
    struct hub *h = (struct hub *)(void *)s;

    (void)uv_timer_stop(&h->idle); /* never fails */
    wait_idle(h);
    if (h->call != NULL)
        h->held = batch_ref(b);
    else
        remote_send(s, b);
}

static void hub_hurry(struct sink *s) {
    struct hub *h = (struct hub *)(void *)s;

    if (h->call != NULL)
        http_cancel(h->call);
    remote_hurry(s);
}

static int hub_start(struct sink *s) {
    struct hub *h = (struct hub *)(void *)s;

    (void)uv_timer_init(h->remote.loop, &h->idle); /* never fails */
    h->started = true;
    return uv_timer_start(&h->idle, on_idle, s->first_ms + HUB_IDLE_MS, 0);
}

static void on_timer_closed(uv_handle_t *handle) {
    struct hub *h = container_of((uv_timer_t *)handle, struct hub, idle);

    h->timer_closed = true;
    maybe_closed(h);
}

static void hub_close(struct sink *s, void (*closed)(void *arg), void *arg) {
    struct hub *h = (struct hub *)(void *)s;

    h->closing = true;
    h->closed = closed;
    h->closed_arg = arg;
    if (h->call != NULL)
        http_cancel(h->call);
    uv_close((uv_handle_t *)&h->idle, on_timer_closed);
}

static void hub_free(struct remote *r) {
    body_clear(&((struct hub *)(void *)r)->empty);
}

static const char *const no_parameters[] = {NULL};

static const struct remote_ops hub_ops = {
    .scheme = "hub",
    .content_type = "application/x-ndjson",
    .parameters = no_parameters,
    .stages = 1,
    .begin = hub_begin,
    .add = hub_add,
    .path = hub_path,
    .dress = hub_dress,
    .judge = hub_judge,
    .free = hub_free,
};

static const struct sink_ops hub_sink_ops = {
    .retry_min_ms = 1000,
    .retry_max_ms = 60000,
    .start = hub_start,
    .send = hub_send,
    .hurry = hub_hurry,
    .close = hub_close,
    .free = remote_free,
};

int sink_hub_new(struct sink **ret, const struct sink_env *env, const char *address,
                 struct buf *why) {
    struct remote *r;
    struct hub *h;
    int rc;

    if (address == NULL && env->hubs == NULL) {
        buf_puts(why, "PILLION_SINK: \"hub:\" asks the registry, and there is none: set "
                      "PILLION_REGISTRY, or say where the hub is: hub+http(s)://host[:port]");
        return -EINVAL;
    }
    rc = remote_new(&r, sizeof(*h), &hub_ops, &hub_sink_ops, env, address, why);
    if (rc != 0)
        return rc;
    h = (struct hub *)(void *)r;
    h->command = env->command;
    h->command_arg = env->command_arg;
    rc = write_empty(h, env);
    if (rc != 0)
        remote_free(&r->base);
    else
        *ret = &r->base;
    return rc;
}
