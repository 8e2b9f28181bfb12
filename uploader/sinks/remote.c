/* All went well: send -> work (write) -> on_written -> post -> on_reply -> taken -> work … nothing left -> finish(TAKEN).
 * Not now: on_reply -> finish(RETRY), and send comes again with the same batch.
 * Too long: on_reply -> half as many records -> on_work. Never: mark -> work (park) -> on_written -> on with the rest.
 *
 * While work is under way everything but `hurried` belongs to the worker thread. */
#include "uploader/sinks/remote.h"

#include <errno.h>

#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/registry/schedule.h"

#define HUB_STALL_MS                                                                               \
    2000 /* of several: the next one is asked; it is looked at once a second (P42: within 3 s) */

static void write_next(struct remote *r);

/* --- the end of a send -------------------------------------------------------------------------- */

static void finish(struct remote *r, enum sink_verdict verdict, enum answer a) {
    struct sink_result result = {.verdict = verdict};

    if (verdict == SINK_RETRY) {
        r->failures++;
        result.retry_ms = answer_wait_ms(a, r->failures, r->retry_after_ms);
    } else {
        r->failures = 0;
        remote_forget(r);
    }
    if (verdict != SINK_TAKEN)
        result.error = r->error;
    body_clear(&r->body);
    batch_unref(r->batch);
    r->batch = NULL;
    r->base.done(r->base.done_arg, &result);
}

static void retry(struct remote *r, enum answer a, int64_t retry_after_ms, const char *error) {
    if (error != r->error)
        (void)text_copy(r->error, sizeof(r->error), error); /* cut is fine */
    r->retry_after_ms = retry_after_ms;
    finish(r, SINK_RETRY, a);
}

/* Everything was asked once. */
static void sweep_ended(struct remote *r) {
    if (r->n_left > 0)
        finish(r, SINK_RETRY, r->left_means); /* the reason is there */
    else if (r->n_parked > 0 && r->n_parked == r->total)
        finish(r, SINK_REFUSED, ANSWER_PARK);
    else
        finish(r, SINK_TAKEN, ANSWER_TAKEN);
}

/* --- parking -------------------------------------------------------------------------------------- */

/* Also when they could not be written: the queue goes on, and the log says that they are gone. */
static void parked(struct remote *r) {
    for (uint32_t i = 0; i < r->total; i++) {
        if (r->state[i] != RECORD_PARK)
            continue;
        r->state[i] = RECORD_DONE;
        r->n_parked++;
        r->n_done++;
    }
    counter_add(COUNTER_RECORDS_PARKED, r->to_park);
    r->to_park = 0;
    buf_reset(&r->reasons);
}

static void on_parked(uv_work_t *w, int status) {
    struct remote *r = container_of(w, struct remote, work);

    (void)status; /* is never cancelled */
    if (r->rc == -ENOMEM) {
        retry(r, ANSWER_RETRY, -1, "no memory to park what was refused");
        return;
    }
    if (r->rc != 0)
        log_warn("sink \"%s\": %u records that it refused could not be parked and are gone: %s",
                 r->base.name, (unsigned)r->to_park, r->error);
    parked(r);
    write_next(r);
}

/* --- asking ------------------------------------------------------------------------------------- */

void remote_header(struct remote *r, const char *name, const char *value) {
    if (r->n_headers == REMOTE_HEADERS)
        return;
    (void)snprintf(r->header_lines[r->n_headers], sizeof(r->header_lines[0]), "%s: %s", name,
                   value);
    r->headers[r->n_headers] = r->header_lines[r->n_headers];
    r->headers[++r->n_headers] = NULL;
}

void remote_request_name(const struct remote *r, char *out, size_t size) {
    if (r->whole || r->chunk_n == 0)
        (void)snprintf(out, size, "%s", r->key);
    else
        (void)snprintf(out, size, "%s.%u-%u", r->key, (unsigned)r->chunk[0] + 1,
                       (unsigned)r->chunk[r->chunk_n - 1] + 1);
}

int remote_address(struct remote *r, const char *path, struct http_request_out *rq, char *url) {
    if (r->hubs != NULL) {
        const char *hub = r->hubs->pick(r->hubs->arg);

        if (hub == NULL)
            return -ENOENT;
        (void)text_copy(r->hub, sizeof(r->hub), hub); /* HUB_URL_BYTES are less */
        if (snprintf(url, URL_SHOW_BYTES, "%s%s", hub, path) >= URL_SHOW_BYTES)
            return -ENAMETOOLONG;
        rq->stall_ms = r->failovers == 0 && r->failures == 0 ? HUB_STALL_MS : 0;
    } else if (url_format(&r->url, path, url, URL_SHOW_BYTES) != 0) {
        return -ENAMETOOLONG;
    }
    rq->url = url;
    rq->user = r->url.user;
    rq->password = r->url.password;
    rq->bearer = r->url.user == NULL ? r->token : NULL;
    return 0;
}

static void on_reply(void *arg, const struct http_reply *reply);

static void post(struct remote *r) {
    struct http_request_out rq = {.done = on_reply, .arg = r, .headers = r->headers};
    char url[URL_SHOW_BYTES];
    int rc = remote_address(r, r->ops->path(r, r->stage), &rq, url);

    r->n_headers = 0;
    r->headers[0] = NULL;
    remote_header(r, "Content-Type", r->ops->content_type);
    remote_header(r, "Content-Encoding", "gzip");
    rq.body = r->whole ? r->batch->data : r->body.out.data;
    rq.body_len = r->whole ? r->batch->len : r->body.out.len;
    if (r->ops->dress != NULL)
        r->ops->dress(r, &rq);
    if (rc == 0)
        rc = http_send(r->http, &rq, &r->call);
    if (rc != 0)
        retry(r, ANSWER_RETRY, -1,
              rc == -ENOENT ? "no hub is known: the registry names none" : strerror(-rc));
    else
        counter_add(COUNTER_REQUESTS_OUT, 1);
}

/* --- answers ------------------------------------------------------------------------------------ */

void remote_record_left(struct remote *r, uint32_t i, enum answer means) {
    if (i >= r->chunk_n || r->state[r->chunk[i]] != RECORD_OPEN)
        return;
    r->state[r->chunk[i]] = RECORD_LEFT;
    if (r->n_left++ == 0 || means == ANSWER_SETTLE)
        r->left_means = means;
}

void remote_record_park(struct remote *r, uint32_t i, const char *reason) {
    if (i < r->chunk_n && r->state[r->chunk[i]] == RECORD_OPEN)
        remote_mark(r, r->chunk[i], reason);
}

static void park_or_next(struct remote *r) {
    if (r->to_park > 0)
        (void)uv_queue_work(r->loop, &r->work, remote_work_park, on_parked); /* fails without a
                                                                            callback only */
    else
        write_next(r);
}

static void taken(struct remote *r) {
    for (uint32_t i = 0; i < r->chunk_n; i++) {
        uint8_t *state = &r->state[r->chunk[i]];

        if (*state != RECORD_OPEN)
            continue;
        *state = RECORD_DONE;
        r->n_done++;
    }
    if (r->whole && r->to_park == 0 && r->n_left == 0)
        sweep_ended(r); /* nothing is left to be looked for */
    else
        park_or_next(r);
}

static void park_chunk(struct remote *r) {
    for (uint32_t i = 0; i < r->chunk_n; i++)
        remote_record_park(r, i, r->error);
    park_or_next(r);
}

static void split(struct remote *r) {
    if (r->chunk_n <= 1) {
        park_chunk(r);
        return;
    }
    r->limit = (r->chunk_n + 1) / 2;
    counter_add(COUNTER_BATCHES_SPLIT, 1);
    write_next(r);
}

/* A hub that does not answer: the next one, at once, each once. */
static bool fail_over(struct remote *r, const struct http_reply *reply) {
    if (r->hubs == NULL || r->hurried)
        return false;
    if (reply->rc == 0 && reply->status < 500) {
        r->hubs->worked(r->hubs->arg, r->hub);
        return false;
    }
    if (!r->hubs->failed(r->hubs->arg, r->hub) || r->failovers >= LIMIT_HUBS)
        return false;
    r->failovers++;
    return true;
}

static void on_reply(void *arg, const struct http_reply *reply) {
    struct remote *r = arg;
    enum answer a = answer_meaning(reply);

    r->call = NULL;
    if (a != ANSWER_TAKEN) {
        counter_add(COUNTER_REQUESTS_OUT_FAILED, 1);
        answer_text(reply, r->error, sizeof(r->error));
    }
    if (fail_over(r, reply)) {
        post(r);
        return;
    }
    if (r->ops->judge != NULL)
        a = r->ops->judge(r, reply, r->error, sizeof(r->error));
    switch (a) {
    case ANSWER_TAKEN:
        taken(r);
        break;
    case ANSWER_SPLIT:
        split(r);
        break;
    case ANSWER_PARK:
        park_chunk(r);
        break;
    case ANSWER_RETRY:
    case ANSWER_SETTLE:
        retry(r, a, reply->retry_after_ms, r->error);
        break;
    }
}

void remote_prepared(struct remote *r, enum answer a, int64_t retry_after_ms, const char *error) {
    r->prepared = a == ANSWER_TAKEN;
    if (r->prepared && !r->hurried)
        post(r);
    else
        retry(r, a, retry_after_ms, r->prepared ? "stopping" : error);
}

/* --- the sink ----------------------------------------------------------------------------------- */

static void on_written(uv_work_t *w, int status) {
    struct remote *r = container_of(w, struct remote, work);
    int rc = 0;

    (void)status; /* is never cancelled */
    if (r->rc == -EBADMSG) {
        (void)text_copy(r->error, sizeof(r->error), "the batch is damaged");
        finish(r, SINK_REFUSED, ANSWER_PARK);
    } else if (r->rc != 0) {
        retry(r, ANSWER_RETRY, -1, "no memory to write a request");
    } else if (r->hurried) {
        retry(r, ANSWER_RETRY, -1, "stopping");
    } else if (r->chunk_n == 0 && r->to_park > 0) {
        park_or_next(r);
    } else if (r->chunk_n == 0) {
        sweep_ended(r);
    } else if (r->prepared || r->ops->prepare == NULL) {
        post(r);
    } else {
        rc = r->ops->prepare(r);
        if (rc != 0)
            retry(r, ANSWER_RETRY, -1, strerror(-rc));
    }
}

static void write_next(struct remote *r) {
    (void)uv_queue_work(r->loop, &r->work, remote_work_write,
                        on_written); /* fails without a callback only */
}

void remote_send(struct sink *s, struct batch *b) {
    struct remote *r = container_of(s, struct remote, base);

    r->batch = batch_ref(b);
    r->failovers = 0;
    r->retry_after_ms = -1;
    remote_reopen(r);
    write_next(r);
}

void remote_hurry(struct sink *s) {
    struct remote *r = container_of(s, struct remote, base);

    r->hurried = true;
    if (r->call != NULL)
        http_cancel(r->call);
}

void remote_free(struct sink *s) {
    struct remote *r = container_of(s, struct remote, base);

    if (r->ops->free != NULL)
        r->ops->free(r);
    remote_forget(r);
    body_clear(&r->body);
    url_clear(&r->url);
    mem_free(r->chunk);
    mem_free(r->token);
    mem_free(r->app);
    mem_free(r->instance);
    mem_free(r->data_dir);
    mem_free(r->base.name);
    mem_free(r);
}

static int take_address(struct remote *r, const char *address, struct buf *why) {
    char shown[URL_SHOW_BYTES], bad[64];
    int rc = url_parse(&r->url, address);

    if (rc == -EINVAL) {
        text_show(shown, sizeof(shown), address);
        buf_printf(why,
                   "PILLION_SINK: \"%s+%s\" is not an address; accepted is "
                   "%s+http(s)://[user:password@]host[:port][/path]",
                   r->ops->scheme, shown, r->ops->scheme);
    }
    if (rc != 0)
        return rc;
    r->has_url = true;
    if (url_format(&r->url, "", shown, sizeof(shown)) != 0) {
        buf_printf(why, "PILLION_SINK: the address of %s is too long", r->ops->scheme);
        return -EINVAL;
    }
    r->base.name = mem_alloc(strlen(r->ops->scheme) + strlen(shown) + 2);
    if (r->base.name == NULL)
        return -ENOMEM;
    (void)snprintf(r->base.name, strlen(r->ops->scheme) + strlen(shown) + 2, "%s+%s",
                   r->ops->scheme, shown);
    if (url_check_parameters(&r->url, r->ops->parameters, bad, sizeof(bad)) == 0)
        return 0;
    buf_printf(
        why, "PILLION_SINK: \"%s?%s=…\": there is no such parameter; accepted:", r->base.name, bad);
    for (const char *const *p = r->ops->parameters; *p != NULL; p++)
        buf_printf(why, " %s", *p);
    if (r->ops->parameters[0] == NULL)
        buf_puts(why, " none");
    return -EINVAL;
}

static int copy(char **ret, const char *s) {
    *ret = s != NULL ? mem_strdup(s) : NULL;
    return s == NULL || *ret != NULL ? 0 : -ENOMEM;
}

int remote_new(struct remote **ret, size_t size, const struct remote_ops *ops,
               const struct sink_ops *sink_ops, const struct sink_env *env, const char *address,
               struct buf *why) {
    struct remote *r = mem_calloc(1, size);
    int rc;

    if (r == NULL)
        return -ENOMEM;
    r->base.ops = sink_ops;
    r->ops = ops;
    r->loop = env->loop;
    r->http = env->http;
    r->retry_after_ms = -1;
    if (env->hubs != NULL && address == NULL) {
        r->hubs_copy = *env->hubs;
        r->hubs = &r->hubs_copy;
        rc = copy(&r->base.name, "hub:");
    } else {
        rc = take_address(r, address, why);
    }
    if (env->app != NULL && env->instance != NULL)
        r->base.first_ms =
            schedule_spread(schedule_key(env->app, env->instance), "delivery", SCHEDULE_SPREAD_MS);
    if (rc == 0)
        rc = copy(&r->token, env->token);
    if (rc == 0)
        rc = copy(&r->app, env->app);
    if (rc == 0)
        rc = copy(&r->instance, env->instance);
    if (rc == 0)
        rc = copy(&r->data_dir, env->data_dir);
    if (rc != 0) {
        r->ops = ops;
        mem_free(r->base.name);
        r->base.name = NULL;
        url_clear(&r->url);
        mem_free(r->token);
        mem_free(r->app);
        mem_free(r->instance);
        mem_free(r->data_dir);
        mem_free(r);
        return rc;
    }
    *ret = r;
    return 0;
}
