/* All went well: remote_send … /v1/metrics, as many requests as it takes, then /v1/logs when there are events. */
#include "uploader/sinks/otlp.h"

#include <errno.h>

#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "uploader/sinks/otlp_write.h"
#include "uploader/sinks/protobuf.h"
#include "uploader/sinks/remote.h"

#define MESSAGE_MAX   (8 * 1024 * 1024)
#define WARN_EVERY_MS 60000

enum stage { STAGE_METRICS, STAGE_LOGS, STAGES };

struct otlp {
    struct remote remote;
    struct otlp_clock clock;
    struct buf message; /* worker thread */
    uint64_t warned;
};

static struct otlp *self(struct remote *r) {
    return container_of(r, struct otlp, remote);
}

static int otlp_add(struct remote *r, const struct records_head *head, unsigned stage,
                    uint32_t line, const char *text, size_t len) {
    struct otlp *o = self(r);
    int rc;

    (void)line;
    if (otlp_is_event(text, len) != (stage == STAGE_LOGS))
        return 0;
    buf_reset(&o->message);
    rc = stage == STAGE_LOGS ? otlp_write_log(&o->message, head, &o->clock, text, len)
                             : otlp_write_metrics(&o->message, head, &o->clock, text, len);
    if (rc == 0)
        rc = o->message.err;
    if (rc != 0)
        return rc == -ENOMEM ? -ENOMEM : -EBADMSG;
    body_add(&r->body, o->message.data, o->message.len);
    return 1;
}

static void otlp_end(struct remote *r, unsigned stage) {
    (void)stage;
    buf_clear(&self(r)->message);
}

static const char *otlp_path(struct remote *r, unsigned stage) {
    (void)r;
    return stage == STAGE_LOGS ? "/v1/logs" : "/v1/metrics";
}

/* ExportMetricsServiceResponse { partial_success = 1 { rejected = 1; error_message = 2 } } */
static uint64_t rejected(const struct http_reply *reply, char *said, size_t size) {
    const char *p = reply->body, *inner, *inner_end;
    struct pb_field f, g;
    uint64_t n = 0;

    said[0] = '\0';
    while (pb_next(&p, reply->body + reply->len, &f) == 1) {
        if (f.number != 1 || f.data == NULL)
            continue;
        inner = f.data;
        inner_end = f.data + f.len;
        while (pb_next(&inner, inner_end, &g) == 1) {
            if (g.number == 1 && g.data == NULL)
                n = g.value;
            else if (g.number == 2 && g.data != NULL)
                (void)snprintf(said, size, "%.*s", (int)(g.len < size ? g.len : size - 1), g.data);
        }
    }
    return n;
}

static enum answer otlp_judge(struct remote *r, const struct http_reply *reply, char *error,
                              size_t size) {
    struct otlp *o = self(r);
    enum answer a = answer_meaning(reply);
    char said[160];
    uint64_t n;

    (void)error;
    (void)size;
    if (a != ANSWER_TAKEN)
        return a;
    n = rejected(reply, said, sizeof(said));
    if (n == 0)
        return a;
    counter_add(COUNTER_POINTS_REJECTED, n);
    if (log_due(&o->warned, WARN_EVERY_MS))
        log_warn("sink \"%s\" rejected %llu points, which are not sent again: %s", r->base.name,
                 (unsigned long long)n, said);
    return a;
}

static void otlp_free(struct remote *r) {
    buf_clear(&self(r)->message);
}

static const char *const no_parameters[] = {NULL};

static const struct remote_ops otlp_ops = {
    .scheme = "otlp",
    .content_type = "application/x-protobuf",
    .parameters = no_parameters,
    .stages = STAGES,
    .most_records = LIMIT_REQUEST_RECORDS,
    .add = otlp_add,
    .end = otlp_end,
    .path = otlp_path,
    .judge = otlp_judge,
    .free = otlp_free,
};

static const struct sink_ops otlp_sink_ops = {REMOTE_SINK_OPS};

int sink_otlp_new(struct sink **ret, const struct sink_env *env, const char *address,
                  struct buf *why) {
    struct remote *r;
    int rc = remote_new(&r, sizeof(struct otlp), &otlp_ops, &otlp_sink_ops, env, address, why);

    if (rc != 0)
        return rc;
    buf_init(&self(r)->message, MESSAGE_MAX);
    otlp_clock_read(&self(r)->clock);
    *ret = &r->base;
    return 0;
}
