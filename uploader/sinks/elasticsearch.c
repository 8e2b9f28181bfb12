/* All went well: remote_send -> prepare (once: is the template there? if not, make it) -> _bulk … on_item for each -> judge. */
#include "uploader/sinks/elasticsearch.h"

#include <ctype.h>
#include <errno.h>

#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/sinks/bulk.h"
#include "uploader/sinks/remote.h"

#define NAME_BYTES  128
#define FIELD_BYTES 256
#define DAY_BYTES   10 /* of "2026-11-23" */
#define LINE_BYTES  (LIMIT_RECORD_BYTES + 65536)

enum kind { KIND_DAILY, KIND_STREAM, KIND_INDEX };

struct elasticsearch {
    struct remote remote;
    char name[NAME_BYTES];
    enum kind kind;
    bool no_template;
    struct buf line; /* worker thread */
    struct buf template;
    struct bulk bulk; /* the answer that is coming */
    unsigned left, refused;
    char first[REMOTE_ERROR_BYTES]; /* what is wrong with the first of them */
};

static struct elasticsearch *self(struct remote *r) {
    return container_of(r, struct elasticsearch, remote);
}

/* --- documents ---------------------------------------------------------------------------------- */

static bool plain(char c) {
    return isalnum((unsigned char)c) || c == '_' || c == '-';
}

static size_t put_plain(const char *s, size_t n, char *out, size_t len, size_t size) {
    for (size_t i = 0; i < n && len + 1 < size; i++)
        if (plain(s[i]) || s[i] != '+')
            out[len++] = plain(s[i]) ? s[i] : '_';
    return len;
}

void elasticsearch_field(const char *key, size_t n, char *out, size_t size) {
    const char *brace = memchr(key, '{', n), *end = key + n;
    size_t len;

    if (brace == NULL && memchr(key, '.', n) == NULL) {
        (void)text_copy(out, n < size ? n + 1 : size, key);
        return;
    }
    len = put_plain(key, brace != NULL ? (size_t)(brace - key) : n, out, 0, size);
    for (const char *p = brace != NULL ? brace : end; p < end && *p != '}';) {
        const char *equals = memchr(p, '=', (size_t)(end - p)), *stop;

        if (equals == NULL)
            break;
        for (stop = equals + 1; stop < end && *stop != ',' && *stop != '}';)
            stop++;
        len = put_plain("__", 2, out, len, size);
        len = put_plain(equals + 1, (size_t)(stop - equals - 1), out, len, size);
        p = stop;
    }
    out[len] = '\0';
}

/* {"create":{"_index":…,"_id":…}} */
static void put_action(struct elasticsearch *e, const struct records_head *head, uint32_t line,
                       const char *time) {
    struct buf *b = &e->line;

    buf_printf(b, "{\"create\":{\"_index\":\"%s", e->name);
    if (e->kind == KIND_DAILY)
        buf_printf(b, "-%.4s.%.2s.%.2s", time, time + 5, time + 8);
    buf_printf(b, "\",\"_id\":\"%s-%llu-%u\"}}\n", head->boot, (unsigned long long)head->seq,
               (unsigned)line);
}

static void put_document(struct elasticsearch *e, const struct records_head *head, uint32_t line,
                         const char *time) {
    struct buf *b = &e->line;

    buf_printf(b, "{\"@timestamp\":\"%s\",\"app\":", time);
    buf_json_string(b, head->app);
    buf_puts(b, ",\"instance\":");
    buf_json_string(b, head->instance);
    buf_printf(b, ",\"boot\":\"%s\",\"seq\":%llu,\"line\":%u", head->boot,
               (unsigned long long)head->seq, (unsigned)line);
}

static bool find_time(const char *text, size_t len, char *out, size_t size) {
    const char *p = NULL;
    struct member m;

    while (member_next(text, len, &p, &m) == 1)
        if (member_is(&m, "time"))
            return member_text(&m, out, size) && strlen(out) > DAY_BYTES && out[4] == '-' &&
                   out[7] == '-' && strpbrk(out, "\"\\") == NULL;
    return false;
}

static int es_add(struct remote *r, const struct records_head *head, unsigned stage, uint32_t line,
                  const char *text, size_t len) {
    struct elasticsearch *e = self(r);
    char field[FIELD_BYTES], time[40];
    const char *p = NULL;
    struct member m;
    int rc;

    (void)stage;
    if (!find_time(text, len, time, sizeof(time)))
        return -EBADMSG;
    buf_reset(&e->line);
    put_action(e, head, line, time);
    put_document(e, head, line, time);
    while ((rc = member_next(text, len, &p, &m)) == 1) {
        if (member_is(&m, "time"))
            continue;
        elasticsearch_field(m.key, m.key_len, field, sizeof(field));
        buf_printf(&e->line, ",\"%s\":", field);
        buf_add(&e->line, m.value, m.value_len);
    }
    buf_puts(&e->line, "}\n");
    if (rc != 0 || e->line.err != 0)
        return e->line.err == -ENOMEM ? -ENOMEM : -EBADMSG;
    body_add(&r->body, e->line.data, e->line.len);
    return 1;
}

static void es_end(struct remote *r, unsigned stage) {
    (void)stage;
    buf_clear(&self(r)->line); /* a long record is not kept for ever */
}

/* --- _bulk -------------------------------------------------------------------------------------- */

static const char *es_path(struct remote *r, unsigned stage) {
    (void)r;
    (void)stage;
    return "/_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason";
}

/* Of one item: what is about the index is about all of them. */
static enum answer item_meaning(long status) {
    if (status == 409)
        return ANSWER_TAKEN;
    return status == 0 ? ANSWER_RETRY : answer_of_status(status);
}

static void on_item(void *arg, const struct bulk_item *item) {
    struct elasticsearch *e = arg;
    enum answer a = item_meaning(item->status);
    char reason[REMOTE_ERROR_BYTES];

    if (item->status == 409)
        counter_add(COUNTER_RECORDS_REPEATED, 1);
    if (a == ANSWER_TAKEN)
        return;
    (void)snprintf(reason, sizeof(reason), "answered %ld %.80s: %.150s", item->status, item->type,
                   item->reason);
    if (e->left + e->refused == 0)
        (void)text_copy(e->first, sizeof(e->first), reason);
    if (a == ANSWER_PARK || a == ANSWER_SPLIT) {
        e->refused++;
        remote_record_park(&e->remote, item->index, reason);
        return;
    }
    if (e->left++ == 0)
        (void)text_copy(e->first, sizeof(e->first), reason);
    remote_record_left(&e->remote, item->index, a);
}

static bool on_data(void *arg, const char *data, size_t len) {
    struct elasticsearch *e = arg;

    return bulk_feed(&e->bulk, data, len);
}

static void es_dress(struct remote *r, struct http_request_out *rq) {
    struct elasticsearch *e = self(r);

    bulk_begin(&e->bulk, on_item, e);
    e->left = e->refused = 0;
    rq->data = on_data;
}

static enum answer es_judge(struct remote *r, const struct http_reply *reply, char *error,
                            size_t size) {
    struct elasticsearch *e = self(r);
    enum answer a = answer_meaning(reply);

    if (a != ANSWER_TAKEN)
        return a;
    if (!bulk_complete(&e->bulk) || e->bulk.n != r->chunk_n) {
        (void)snprintf(error, size, "its answer is not one of _bulk: is this Elasticsearch?");
        return ANSWER_RETRY;
    }
    if (e->left > 0)
        (void)snprintf(error, size, "%u of %u documents are sent again: %.300s", e->left,
                       (unsigned)r->chunk_n, e->first);
    else if (e->refused > 0)
        (void)text_copy(error, size, e->first);
    return ANSWER_TAKEN;
}

/* --- the template ------------------------------------------------------------------------------- */

static void write_template(struct elasticsearch *e) {
    struct buf *b = &e->template;

    buf_printf(
        b,
        "{\"index_patterns\":[\"%s%s\"],\"priority\":150,%s\"template\":{\"settings\":{"
        "\"index.mapping.total_fields.limit\":2000,\"index.auto_expand_replicas\":\"0-1\"},"
        "\"mappings\":{\"dynamic_templates\":["
        "{\"words\":{\"match_mapping_type\":\"string\",\"mapping\":{\"type\":\"keyword\","
        "\"ignore_above\":1024}}},"
        "{\"whole_numbers\":{\"match_mapping_type\":\"long\",\"mapping\":{\"type\":\"double\"}}}],"
        "\"properties\":{\"@timestamp\":{\"type\":\"date\"},\"seq\":{\"type\":\"long\"},"
        "\"line\":{\"type\":\"long\"},\"pid\":{\"type\":\"long\"},\"thread\":{\"type\":\"long\"},"
        "\"sample\":{\"type\":\"long\"},\"kind\":{\"type\":\"keyword\"},"
        "\"app\":{\"type\":\"keyword\"},\"instance\":{\"type\":\"keyword\"},"
        "\"worker\":{\"type\":\"keyword\"},\"boot\":{\"type\":\"keyword\"}}}},"
        "\"_meta\":{\"made_by\":\"pillion\"}}",
        e->name, e->kind == KIND_DAILY ? "-*" : "",
        e->kind == KIND_STREAM ? "\"data_stream\":{}," : "");
}

static int ask_template(struct elasticsearch *e, bool make, http_done_cb done) {
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    struct http_request_out rq = {.method = make ? "PUT" : "HEAD", .done = done, .arg = e};
    char url[URL_SHOW_BYTES], path[NAME_BYTES + 64];
    int rc;

    (void)snprintf(path, sizeof(path), "/_index_template/%s%s", e->name,
                   make ? "?create=true" : "");
    rc = remote_address(&e->remote, path, &rq, url);
    if (make) {
        rq.headers = headers;
        rq.body = e->template.data;
        rq.body_len = e->template.len;
    }
    if (rc == 0)
        rc = http_send(e->remote.http, &rq, &e->remote.call);
    return rc;
}

static void on_template_made(void *arg, const struct http_reply *reply) {
    struct elasticsearch *e = arg;
    enum answer a = answer_meaning(reply);
    char error[REMOTE_ERROR_BYTES], said[REMOTE_ERROR_BYTES];

    e->remote.call = NULL;
    /* Somebody else was faster. */
    if (reply->status == 400 && strstr(reply->body, "already exists") != NULL)
        a = ANSWER_TAKEN;
    answer_text(reply, said, sizeof(said));
    (void)snprintf(error, sizeof(error), "the index template cannot be made: %.300s", said);
    /* What it does not take now it may take after a change there; the batch is not to blame. */
    if (a == ANSWER_PARK || a == ANSWER_SPLIT)
        a = ANSWER_SETTLE;
    remote_prepared(&e->remote, a, reply->retry_after_ms, error);
}

static void on_template_asked(void *arg, const struct http_reply *reply) {
    struct elasticsearch *e = arg;
    enum answer a = answer_meaning(reply);
    char error[REMOTE_ERROR_BYTES];
    int rc = 0;

    e->remote.call = NULL;
    answer_text(reply, error, sizeof(error));
    if (reply->rc == 0 && reply->status == 404 && !e->remote.hurried) {
        rc = ask_template(e, true, on_template_made);
        if (rc == 0)
            return;
        (void)text_copy(error, sizeof(error), strerror(-rc));
        a = ANSWER_RETRY;
    }
    remote_prepared(&e->remote, a == ANSWER_PARK ? ANSWER_SETTLE : a, reply->retry_after_ms, error);
}

static int es_prepare(struct remote *r) {
    return ask_template(self(r), false, on_template_asked);
}

/* --- making ------------------------------------------------------------------------------------- */

static void es_free(struct remote *r) {
    buf_clear(&self(r)->line);
    buf_clear(&self(r)->template);
}

static const char *const parameters[] = {"kind", "template", NULL};

static const struct remote_ops es_ops = {
    .scheme = "es",
    .content_type = "application/x-ndjson",
    .parameters = parameters,
    .stages = 1,
    .most_records = LIMIT_REQUEST_RECORDS,
    .add = es_add,
    .end = es_end,
    .path = es_path,
    .dress = es_dress,
    .judge = es_judge,
    .prepare = es_prepare,
    .free = es_free,
};

/* The same without a template. */
static const struct remote_ops es_bare_ops = {
    .scheme = "es",
    .content_type = "application/x-ndjson",
    .parameters = parameters,
    .stages = 1,
    .most_records = LIMIT_REQUEST_RECORDS,
    .add = es_add,
    .end = es_end,
    .path = es_path,
    .dress = es_dress,
    .judge = es_judge,
    .free = es_free,
};

static const struct sink_ops es_sink_ops = {REMOTE_SINK_OPS};

/* What Elasticsearch takes for the name of an index. */
static bool good_name(const char *s) {
    size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789._-");

    return n > 0 && s[n] == '\0' && n + 16 < NAME_BYTES && strchr("._-", s[0]) == NULL;
}

static int take_options(struct elasticsearch *e, struct buf *why) {
    static const char *const kinds[] = {"daily", "stream", "index"};
    struct url *u = &e->remote.url;
    char *slash = strrchr(u->path, '/'), value[16];
    int rc = url_parameter(u, "kind", value, sizeof(value));
    size_t k = 0;

    (void)text_copy(e->name, sizeof(e->name), slash != NULL ? slash + 1 : "pillion");
    if (slash != NULL)
        *slash = '\0';
    if (!good_name(e->name)) {
        buf_printf(why,
                   "PILLION_SINK: %s: the name of the index; accepted are small letters, digits, "
                   "\".\", \"_\" and \"-\", not one of these three at the beginning",
                   e->remote.base.name);
        return -EINVAL;
    }
    while (rc == 0 && k < ARRAY_LEN(kinds) && strcmp(kinds[k], value) != 0)
        k++;
    if ((rc != 0 && rc != -ENOENT) || k == ARRAY_LEN(kinds)) {
        buf_printf(why, "PILLION_SINK: %s: kind; accepted are daily, stream and index",
                   e->remote.base.name);
        return -EINVAL;
    }
    e->kind = (enum kind)k;
    rc = url_parameter(u, "template", value, sizeof(value));
    if (rc != -ENOENT && (rc != 0 || strcmp(value, "none") != 0)) {
        buf_printf(why, "PILLION_SINK: %s: template; accepted is none", e->remote.base.name);
        return -EINVAL;
    }
    e->no_template = rc == 0 || e->kind == KIND_INDEX;
    return 0;
}

int sink_elasticsearch_new(struct sink **ret, const struct sink_env *env, const char *address,
                           struct buf *why) {
    struct elasticsearch *e;
    struct remote *r;
    int rc = remote_new(&r, sizeof(*e), &es_ops, &es_sink_ops, env, address, why);

    if (rc != 0)
        return rc;
    e = self(r);
    buf_init(&e->line, LINE_BYTES);
    buf_init(&e->template, 4096);
    rc = take_options(e, why);
    if (rc == 0 && e->no_template)
        r->ops = &es_bare_ops;
    else if (rc == 0)
        write_template(e);
    if (rc == 0)
        rc = e->template.err;
    if (rc != 0)
        remote_free(&r->base);
    else
        *ret = &r->base;
    return rc;
}
