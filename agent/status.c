/* A table of paths; each page is built whole into one buffer. Nothing here waits, changes or
 * remembers anything; what does is in agent/api.c. */
#include "agent/status.h"

#include <errno.h>
#include <math.h>

#include "agent/api.h"
#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/status_text.h"
#include "collectors/record.h"

#define JSON_TYPE "application/json"
#define TEXT_TYPE "text/plain; charset=utf-8"

/* A page may be a little old, so that many who ask at once cost one page. */
#define KEEP_PAGE_MS    200
#define KEEP_METRICS_MS 1000

bool status_worker_matches(const struct worker *w, const char *who) {
    uint64_t pid;

    if (who == NULL || strcmp(who, "all") == 0 || strcmp(w->id, who) == 0 ||
        strcmp(w->role, who) == 0)
        return true;
    return text_u64(who, &pid) == 0 && (uint64_t)w->pid == pid;
}

/* --- /workers --------------------------------------------------------------------------------- */

static void put_time(struct buf *out, const char *key, int64_t wall_ms) {
    char when[CLOCK_ISO_BYTES];

    if (wall_ms == 0) {
        buf_printf(out, ",\"%s\":null", key);
        return;
    }
    clock_iso(wall_ms, when);
    buf_printf(out, ",\"%s\":\"%s\"", key, when);
}

static void put_text(struct buf *out, const char *key, const char *value) {
    buf_printf(out, ",\"%s\":", key);
    buf_json_string(out, value);
}

/* `digits` behind the point: a float read as a double has a long tail that means nothing. */
static void put_point(struct buf *out, float v, double digits) {
    buf_number(out, isfinite(v) ? round((double)v * digits) / digits : NAN);
}

/* Oldest first; places that were never filled are left out. */
static void put_history(struct buf *out, const struct worker *w) {
    static const char *const names[] = {"cpu", "memory", "utilization"};

    buf_puts(out, ",\"history\":{");
    for (int what = 0; what < 3; what++) {
        bool begun = false;

        buf_printf(out, "%s\"%s\":[", what > 0 ? "," : "", names[what]);
        for (size_t i = 0; i < LIMIT_HISTORY; i++) {
            const struct worker_point *p = &w->history[(w->history_next + i) % LIMIT_HISTORY];

            if (!begun && isnan(p->cpu) && isnan(p->memory) && isnan(p->utilization))
                continue;
            buf_puts(out, begun ? "," : "");
            begun = true;
            if (what == 1)
                put_point(out, p->memory, 1);
            else
                put_point(out, what == 0 ? p->cpu : p->utilization, 1e4);
        }
        buf_putc(out, ']');
    }
    buf_putc(out, '}');
}

static void put_worker(struct buf *out, const struct worker *w, bool history) {
    buf_puts(out, "{\"worker\":");
    buf_json_string(out, w->id);
    buf_printf(out, ",\"pid\":%ld,\"ppid\":%ld,\"role\":\"%s\",\"thread\":%u", (long)w->pid,
               (long)w->ppid, w->role, (unsigned)w->thread);
    put_text(out, "title", w->title);
    put_text(out, "node", w->node);
    buf_printf(out, ",\"state\":\"%s\"", worker_state_name(w->state));
    put_time(out, "since", w->since_ms);
    put_time(out, "last_sample", w->last_sample_ms);
    buf_puts(out, ",\"metrics\":");
    if (w->schema != NULL)
        record_metrics_object(out, w->schema, w->values);
    else
        buf_puts(out, "{}");
    if (history)
        put_history(out, w);
    buf_putc(out, '}');
}

static void page_workers(const struct status *s, const struct http_request *rq, struct buf *out) {
    const char *who = http_query(rq, "worker"), *history = http_query(rq, "history");
    bool with_history = history != NULL && strcmp(history, "0") != 0, first = true;

    buf_puts(out, "{\"workers\":[");
    for (size_t i = 0; i < workers_count(s->workers); i++) {
        const struct worker *w = workers_at(s->workers, i);

        if (!status_worker_matches(w, who))
            continue;
        buf_puts(out, first ? "" : ",");
        put_worker(out, w, with_history);
        first = false;
    }
    buf_puts(out, "]}\n");
}

/* --- /status ---------------------------------------------------------------------------------- */

static void put_known(struct buf *out, const char *key, double v) {
    if (!isfinite(v))
        return;
    buf_printf(out, ",\"%s\":", key);
    buf_number(out, v);
}

static void put_helper(const struct status *s, struct buf *out) {
    struct helper_numbers n;

    helper_stats_read(s->helper, &n);
    buf_printf(out, ",\"helper\":{\"pid\":%ld", (long)getpid());
    put_known(out, "memory_bytes", n.rss_bytes);
    put_known(out, "cpu_seconds", n.cpu_s);
    put_known(out, "cpu", isfinite(n.cpu) ? round(n.cpu * 1e6) / 1e6 : NAN);
    put_known(out, "descriptors", n.descriptors);
    put_known(out, "descriptors_limit", n.descriptors_limit);
    put_known(out, "loop_lag_max_seconds", n.lag_max_s);
    put_known(out, "loop_lag_p99_seconds", n.lag_p99_s);
    put_known(out, "loop_turns", n.turns);
    buf_putc(out, '}');
}

static void put_container(const struct status *s, struct buf *out) {
    buf_puts(out, ",\"container\":{\"cgroup\":");
    buf_json_string(out, s->container_layout != NULL ? s->container_layout : "none");
    if (s->container_schema != NULL && s->container_values != NULL)
        record_metrics(out, s->container_schema, s->container_values);
    buf_putc(out, '}');
}

static void put_worker_counts(const struct status *s, struct buf *out) {
    size_t n[WORKER_GONE + 1] = {0};

    for (size_t i = 0; i < workers_count(s->workers); i++)
        n[workers_at(s->workers, i)->state]++;
    buf_puts(out, ",\"workers\":{");
    for (unsigned i = 0; i <= WORKER_GONE; i++)
        buf_printf(out, "%s\"%s\":%zu", i > 0 ? "," : "", worker_state_name(i), n[i]);
    buf_putc(out, '}');
}

static void page_status(const struct status *s, const struct http_request *rq, struct buf *out) {
    (void)rq;
    buf_puts(out, "{\"version\":\"" PILLION_VERSION "\"");
    put_text(out, "boot", s->boot);
    buf_puts(out, ",\"uptime\":");
    buf_number(out, (double)(clock_mono_ms() - s->started_mono_ms) / 1000);
    put_time(out, "time", clock_wall_ms());
    put_text(out, "app", s->app);
    put_text(out, "instance", s->config->instance);
    put_worker_counts(s, out);
    put_helper(s, out);
    put_container(s, out);
    buf_puts(out, ",\"sinks\":");
    if (s->uploader != NULL)
        uploader_status(s->uploader, out);
    else
        buf_puts(out, "[]");
    buf_puts(out, ",\"spool\":");
    if (s->uploader != NULL)
        uploader_spool_status(s->uploader, out);
    else
        buf_puts(out, "{}");
    buf_puts(out, ",\"registry\":");
    registrar_status(s->registrar, out);
    captures_status(s->captures, out);
    buf_puts(out, ",\"counters\":{");
    for (int c = 0; c < COUNTER_COUNT; c++) {
        buf_printf(out, "%s\"%s\":", c > 0 ? "," : "", counter_name((enum counter)c));
        buf_u64(out, counter_get((enum counter)c));
    }
    buf_puts(out, "},\"warnings\":");
    warnings_json(s->warnings, out);
    buf_puts(out, "}\n");
}

/* --- the others ------------------------------------------------------------------------------- */

static void page_jobs(const struct status *s, const struct http_request *rq, struct buf *out) {
    (void)rq;
    if (captures_jobs(s->captures) != NULL)
        jobs_write_all(captures_jobs(s->captures), out);
    else
        buf_puts(out, "{\"jobs\":[]}\n");
}

static void page_config(const struct status *s, const struct http_request *rq, struct buf *out) {
    (void)rq;
    config_json(s->config, s->env, out);
    buf_putc(out, '\n');
}

static void page_metrics(const struct status *s, const struct http_request *rq, struct buf *out) {
    int rc = metrics_text_write(s->metrics_text, s, http_query(rq, "worker"), out);

    if (rc != 0 && out->err == 0)
        out->err = rc;
}

static void page_healthz(const struct status *s, const struct http_request *rq, struct buf *out) {
    (void)s, (void)rq;
    buf_puts(out, "ok\n");
}

static void page_overview(const struct status *s, const struct http_request *rq, struct buf *out) {
    (void)rq;
    status_text(s, out);
    buf_puts(out, "\nPages: / /status /workers /jobs /config /metrics /healthz\n");
}

static const struct page {
    const char *path, *type;
    void (*write)(const struct status *s, const struct http_request *rq, struct buf *out);
    unsigned keep_ms;
} pages[] = {
    {"/", TEXT_TYPE, page_overview, KEEP_PAGE_MS},
    {"/status", JSON_TYPE, page_status, KEEP_PAGE_MS},
    {"/workers", JSON_TYPE, page_workers, KEEP_PAGE_MS},
    {"/v1/workers", JSON_TYPE, page_workers, KEEP_PAGE_MS},
    {"/jobs", JSON_TYPE, page_jobs, 0},
    {"/config", JSON_TYPE, page_config, 0},
    {"/metrics", METRICS_TEXT_TYPE, page_metrics, KEEP_METRICS_MS},
    {"/healthz", TEXT_TYPE, page_healthz, 0},
};

static void answer_error(struct http_answer *a, unsigned status, const char *why) {
    struct buf out;

    buf_init(&out, LIMIT_HTTP_PAGE_BYTES);
    buf_puts(&out, "{\"error\":");
    buf_json_string(&out, why);
    if (status == 404) {
        buf_puts(&out, ",\"paths\":[");
        for (size_t i = 0; i < ARRAY_LEN(pages); i++)
            buf_printf(&out, "%s\"%s\"", i > 0 ? "," : "", pages[i].path);
        buf_puts(&out, ",\"/v1/commands\",\"/v1/jobs\",\"/v1/jobs/{id}\"]");
    }
    buf_puts(&out, "}\n");
    *a = (struct http_answer){.status = status, .content_type = JSON_TYPE};
    if (status == 405)
        a->allow = "GET, HEAD";
    if (out.err == 0)
        a->body = buf_take(&out, &a->body_len);
    buf_clear(&out);
}

static void answer_page(const struct status *s, const struct page *p, const struct http_request *rq,
                        struct http_answer *a) {
    struct buf out;

    buf_init(&out, LIMIT_HTTP_PAGE_BYTES);
    p->write(s, rq, &out);
    if (out.err != 0) {
        counter_add(COUNTER_OUT_OF_MEMORY, out.err == -ENOMEM);
        answer_error(a, out.err == -ENOMEM ? 503 : 500,
                     out.err == -ENOMEM ? "no memory for this page right now"
                                        : "the page is larger than it may be");
        buf_clear(&out);
        return;
    }
    *a = (struct http_answer){.status = 200, .content_type = p->type, .keep_ms = p->keep_ms};
    a->body = buf_take(&out, &a->body_len);
}

void status_handler(void *arg, const struct http_request *rq, const char *method, const char *path,
                    struct http_answer *ret) {
    const struct status *s = arg;
    const struct api_asker asker = {.here = true};
    const struct page *p = NULL;

    if (api_handle(captures_jobs(s->captures), &asker, rq, method, path, ret))
        return;
    for (size_t i = 0; i < ARRAY_LEN(pages) && p == NULL; i++)
        if (strcmp(pages[i].path, path) == 0)
            p = &pages[i];
    if (p == NULL)
        answer_error(ret, 404, "no such page");
    else if (strcmp(method, "GET") != 0)
        answer_error(ret, 405, "this page can only be read");
    else
        answer_page(s, p, rq, ret);
}
