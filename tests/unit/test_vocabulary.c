/* test_vocabulary.c - collectors/vocabulary: prom-client's names, the rule for all others, foreign workers' names, and a whole
 * page of every metric that we have through `promtool check metrics`. */
#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/schema.h"
#include "collectors/cgroup.h"
#include "collectors/proc.h"
#include "collectors/vocabulary.h"

#define G FIELD_GAUGE
#define C FIELD_COUNTER
#define H FIELD_HISTOGRAM

/* What a worker sends (collectors/node/sampler.js), and what it becomes; `sum` is its second name. */
static const struct row {
    const char *name, *attribute, *value, *unit;
    enum field_kind kind;
    const char *prometheus, *labels, *type, *sum;
} rows[] = {
    {"process.cpu.time", "cpu.mode", "user", "s", C, "process_cpu_user_seconds_total", "",
     "counter", "process_cpu_seconds_total"},
    {"process.cpu.time", "cpu.mode", "system", "s", C, "process_cpu_system_seconds_total", "",
     "counter", "process_cpu_seconds_total"},
    {"process.memory.usage", NULL, NULL, "By", G, "process_resident_memory_bytes", "", "gauge",
     NULL},
    {"pillion.memory.heap.used", NULL, NULL, "By", G, "nodejs_heap_size_used_bytes", "", "gauge",
     NULL},
    {"pillion.memory.heap.size", NULL, NULL, "By", G, "nodejs_heap_size_total_bytes", "", "gauge",
     NULL},
    {"pillion.memory.heap.limit", NULL, NULL, "By", G, "nodejs_heap_size_limit_bytes", "", "gauge",
     NULL},
    {"pillion.memory.external", NULL, NULL, "By", G, "nodejs_external_memory_bytes", "", "gauge",
     NULL},
    {"pillion.memory.array_buffers", NULL, NULL, "By", G, "nodejs_array_buffers_bytes", "", "gauge",
     NULL},
    {"pillion.memory.malloced", NULL, NULL, "By", G, "nodejs_malloced_memory_bytes", "", "gauge",
     NULL},
    {"pillion.memory.malloced_peak", NULL, NULL, "By", G, "nodejs_malloced_memory_peak_bytes", "",
     "gauge", NULL},
    {"pillion.memory.native_contexts", NULL, NULL, "{context}", G, "nodejs_native_contexts", "",
     "gauge", NULL},
    {"pillion.memory.detached_contexts", NULL, NULL, "{context}", G, "nodejs_detached_contexts", "",
     "gauge", NULL},
    {"v8js.memory.heap.used", "v8js.heap.space.name", "new_space", "By", G,
     "nodejs_heap_space_size_used_bytes", "space=\"new\"", "gauge", NULL},
    {"v8js.memory.heap.space.size", "v8js.heap.space.name", "large_object_space", "By", G,
     "nodejs_heap_space_size_total_bytes", "space=\"large_object\"", "gauge", NULL},
    {"v8js.memory.heap.space.available_size", "v8js.heap.space.name", "old_space", "By", G,
     "nodejs_heap_space_size_available_bytes", "space=\"old\"", "gauge", NULL},
    {"v8js.memory.heap.space.physical_size", "v8js.heap.space.name", "code_space", "By", G,
     "nodejs_heap_space_size_physical_bytes", "space=\"code\"", "gauge", NULL},
    {"nodejs.eventloop.delay.min", NULL, NULL, "s", G, "nodejs_eventloop_lag_min_seconds", "",
     "gauge", NULL},
    {"nodejs.eventloop.delay.max", NULL, NULL, "s", G, "nodejs_eventloop_lag_max_seconds", "",
     "gauge", NULL},
    {"nodejs.eventloop.delay.mean", NULL, NULL, "s", G, "nodejs_eventloop_lag_mean_seconds", "",
     "gauge", "nodejs_eventloop_lag_seconds"},
    {"nodejs.eventloop.delay.stddev", NULL, NULL, "s", G, "nodejs_eventloop_lag_stddev_seconds", "",
     "gauge", NULL},
    {"nodejs.eventloop.delay.p50", NULL, NULL, "s", G, "nodejs_eventloop_lag_p50_seconds", "",
     "gauge", NULL},
    {"nodejs.eventloop.delay.p90", NULL, NULL, "s", G, "nodejs_eventloop_lag_p90_seconds", "",
     "gauge", NULL},
    {"nodejs.eventloop.delay.p99", NULL, NULL, "s", G, "nodejs_eventloop_lag_p99_seconds", "",
     "gauge", NULL},
    {"nodejs.eventloop.utilization", NULL, NULL, "1", G, "nodejs_eventloop_utilization_ratio", "",
     "gauge", NULL},
    {"nodejs.eventloop.time", "nodejs.eventloop.state", "active", "s", C,
     "nodejs_eventloop_time_seconds_total", "nodejs_eventloop_state=\"active\"", "counter", NULL},
    {"v8js.resource.active", "v8js.resource.type", "Timeout", "{resource}", G,
     "nodejs_active_resources", "type=\"Timeout\"", "gauge", "nodejs_active_resources_total"},
    {"pillion.resource.handles", NULL, NULL, "{handle}", G, "nodejs_active_handles_total", "",
     "untyped", NULL},
    {"pillion.resource.requests", NULL, NULL, "{request}", G, "nodejs_active_requests_total", "",
     "untyped", NULL},
    {"v8js.gc.duration", "v8js.gc.type", "minor", "s", H, "nodejs_gc_duration_seconds",
     "kind=\"minor\"", "histogram", NULL},
    {"pillion.gc.duration.max", "v8js.gc.type", "major", "s", G, "nodejs_gc_duration_max_seconds",
     "kind=\"major\"", "gauge", NULL},
    {"http.server.request.duration", NULL, NULL, "s", H, "http_server_request_duration_seconds", "",
     "histogram", NULL},
    {"pillion.http.server.requests", "http.response.status_class", "2xx", "{request}", C,
     "pillion_http_server_requests_total", "http_response_status_class=\"2xx\"", "counter", NULL},
    {"pillion.http.server.active_requests", NULL, NULL, "{request}", G,
     "pillion_http_server_active_requests", "", "gauge", NULL},
    {"pillion.worker.samples.dropped", NULL, NULL, "{sample}", C,
     "pillion_worker_samples_dropped_total", "", "counter", NULL},
    {"pillion.worker.held_bytes", NULL, NULL, "By", G, "pillion_worker_held_bytes", "", "gauge",
     NULL},
};

static const struct row foreign[] = {
    {"queue.depth", NULL, NULL, "1", G, "queue_depth_ratio", "", "gauge", NULL},
    {"jobs.total", NULL, NULL, "{job}", C, "jobs_total", "", "counter", NULL},
    {"jobs.seconds_total", NULL, NULL, "s", C, "jobs_seconds_total", "", "counter", NULL},
    {"jobs.count", NULL, NULL, "{job}", G, "jobs_count_value", "", "gauge", NULL},
    {"jobs.total", NULL, NULL, "{job}", G, "jobs_total_value", "", "gauge", NULL},
    {"jobs.bucket", NULL, NULL, "", H, "jobs_bucket_value", "", "histogram", NULL},
    {"9lives..Of_A.Cat_", NULL, NULL, "", G, "_9lives_of_a_cat", "", "gauge", NULL},
    {"x", "worker", "me", "", G, "x", "attribute_worker=\"me\"", "gauge", NULL},
    {"x", "__name__", "y", "", G, "x", "name=\"y\"", "gauge", NULL},
    {"x", "#8js.pace", "z", "", G, "x", "_8js_pace=\"z\"", "gauge", NULL},
    {"x", "a", "quote\" back\\ line\n", "", G, "x", "a=\"quote\\\" back\\\\ line\\n\"", "gauge",
     NULL},
    {"latency", NULL, NULL, "ms", G, "latency_milliseconds", "", "gauge", NULL},
    /* a known name with another unit or kind is not that thing */
    {"process.memory.usage", NULL, NULL, "KiBy", G, "process_memory_usage_kibibytes", "", "gauge",
     NULL},
    {"process.cpu.time", "cpu.mode", "wait", "s", C, "process_cpu_time_seconds_total",
     "cpu_mode=\"wait\"", "counter", "process_cpu_seconds_total"},
};

static struct schema *schema_of(const struct row *r, size_t n) {
    static const double bounds[] = {0.001, 0.01, 0.1, 1};
    struct schema *s = NULL;

    assert_int_equal(schema_new(&s, n), 0);
    for (size_t i = 0; i < n; i++) {
        const char *attributes[] = {r[i].attribute, r[i].value};

        assert_int_equal(schema_add(s, r[i].name, attributes, r[i].attribute != NULL, r[i].unit,
                                    r[i].kind, bounds, r[i].kind == H ? ARRAY_LEN(bounds) : 0),
                         0);
    }
    return s;
}

static void check_rows(const struct row *r, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct schema *s = schema_of(&r[i], 1);
        struct prometheus_name p;

        assert_int_equal(vocabulary_prometheus(&s->fields[0], &p), 0);
        assert_string_equal(p.name, r[i].prometheus);
        assert_string_equal(p.labels, r[i].labels);
        assert_string_equal(p.type, r[i].type);
        assert_true(p.help[0] != '\0');
        prometheus_name_clear(&p);
        if (r[i].sum == NULL) {
            assert_int_equal(vocabulary_prometheus_sum(&s->fields[0], &p), -ENOENT);
        } else {
            assert_int_equal(vocabulary_prometheus_sum(&s->fields[0], &p), 0);
            assert_string_equal(p.name, r[i].sum);
            assert_string_equal(p.labels, "");
            prometheus_name_clear(&p);
        }
        schema_unref(s);
    }
}

static void names_of_workers(void **state) {
    (void)state;
    check_rows(rows, ARRAY_LEN(rows));
}

static void names_of_foreign_workers(void **state) {
    (void)state;
    check_rows(foreign, ARRAY_LEN(foreign));
}

static void refused(void **state) {
    static const struct row page[] = {
        {"process.start.time", NULL, NULL, "s", G, NULL, NULL, NULL, NULL},
        {"pillion.batches", NULL, NULL, "", C, NULL, NULL, NULL, NULL},
        {"pillion.workers", NULL, NULL, "", G, NULL, NULL, NULL, NULL},
    };
    static const struct row none = {"...", NULL, NULL, "", G, NULL, NULL, NULL, NULL};
    const char *twice[] = {"a.b", "1", "a_b", "2"};
    struct prometheus_name p;
    struct schema *s;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(page); i++) {
        s = schema_of(&page[i], 1);
        assert_int_equal(vocabulary_prometheus(&s->fields[0], &p), -EEXIST);
        schema_unref(s);
    }
    s = schema_of(&none, 1);
    assert_int_equal(vocabulary_prometheus(&s->fields[0], &p), -EINVAL);
    schema_unref(s);
    assert_int_equal(schema_new(&s, 1), 0);
    assert_int_equal(schema_add(s, "x", twice, 2, "", G, NULL, 0), 0);
    assert_int_equal(vocabulary_prometheus(&s->fields[0], &p), -EINVAL);
    schema_unref(s);
}

static void longest(void **state) {
    char name[LIMIT_NAME_BYTES + 1], value[LIMIT_LABEL_BYTES + 1];
    const char *attributes[] = {name, value, "b", value, "c", value, "d", value};
    struct prometheus_name p;
    struct schema *s = NULL;

    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    memset(value, '"', sizeof(value) - 1);
    value[sizeof(value) - 1] = '\0';
    assert_int_equal(schema_new(&s, 1), 0);
    assert_int_equal(schema_add(s, name, attributes, 4, "s", C, NULL, 0), 0);
    assert_int_equal(vocabulary_prometheus(&s->fields[0], &p), 0);
    assert_int_equal(strlen(p.name), LIMIT_NAME_BYTES + strlen("_seconds_total"));
    prometheus_name_clear(&p);
    schema_unref(s);
}

/* ---- the whole vocabulary at once ---- */

struct series {
    struct prometheus_name p;
    const struct field *field;
    bool sum;
};

#define SERIES_MAX 256

static size_t add_all(const struct schema *s, struct series *out, size_t n) {
    for (size_t i = 0; i < s->n_fields; i++) {
        assert_true(n + 2 <= SERIES_MAX);
        out[n].field = &s->fields[i];
        out[n].sum = false;
        assert_int_equal(vocabulary_prometheus(&s->fields[i], &out[n].p), 0);
        n++;
        if (vocabulary_prometheus_sum(&s->fields[i], &out[n].p) == 0) {
            out[n].field = &s->fields[i];
            out[n].sum = true;
            n++;
        }
    }
    return n;
}

static int by_name(const void *a, const void *b) {
    const struct series *x = a, *y = b;
    int c = strcmp(x->p.name, y->p.name);

    return c != 0 ? c : strcmp(x->p.labels, y->p.labels);
}

static bool valid_name(const char *s) {
    if (!isalpha((unsigned char)*s) && *s != '_')
        return false;
    for (; *s != '\0'; s++)
        if (!isalnum((unsigned char)*s) && *s != '_')
            return false;
    return true;
}

/* No name is a histogram's bucket, sum or count, or one that the page writes of itself. */
static void check_collisions(const struct series *all, size_t n) {
    static const char *const ends[] = {"_bucket", "_sum", "_count"};
    char taken[256];

    for (size_t i = 0; i < n; i++) {
        assert_true(valid_name(all[i].p.name));
        if (i > 0 && strcmp(all[i].p.name, all[i - 1].p.name) == 0) {
            assert_string_equal(all[i].p.type, all[i - 1].p.type);
            assert_string_equal(all[i].p.help, all[i - 1].p.help);
            /* a worker and the kernel both measure process.cpu.time and process.memory.usage: one layout has them once */
            if (!all[i].sum && strcmp(all[i].p.labels, all[i - 1].p.labels) == 0)
                assert_string_equal(all[i].field->key, all[i - 1].field->key);
        }
        for (int k = 0; k < COUNTER_COUNT; k++) {
            (void)snprintf(taken, sizeof(taken), "pillion_%s_total", counter_name((enum counter)k));
            assert_string_not_equal(taken, all[i].p.name);
        }
        for (size_t k = 0; all[i].field->kind == H && k < n; k++)
            for (size_t e = 0; e < ARRAY_LEN(ends); e++) {
                (void)snprintf(taken, sizeof(taken), "%s%s", all[i].p.name, ends[e]);
                assert_string_not_equal(taken, all[k].p.name);
            }
    }
}

static void print_histogram(FILE *f, const struct series *s) {
    const char *comma = s->p.labels[0] != '\0' ? "," : "";

    (void)fprintf(f, "%s_bucket{%s%sle=\"0.1\"} 1\n", s->p.name, s->p.labels, comma);
    (void)fprintf(f, "%s_bucket{%s%sle=\"+Inf\"} 2\n", s->p.name, s->p.labels, comma);
    (void)fprintf(f, "%s_sum{%s} 1.5\n%s_count{%s} 2\n", s->p.name, s->p.labels, s->p.name,
                  s->p.labels);
}

static void print_page(FILE *f, const struct series *all, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const struct prometheus_name *p = &all[i].p;
        bool same_name = i > 0 && strcmp(p->name, all[i - 1].p.name) == 0;

        if (same_name && strcmp(p->labels, all[i - 1].p.labels) == 0)
            continue; /* added to the one before */
        if (!same_name)
            (void)fprintf(f, "# HELP %s %s\n# TYPE %s %s\n", p->name, p->help, p->name, p->type);
        if (all[i].field->kind == H)
            print_histogram(f, &all[i]);
        else
            (void)fprintf(f, "%s{%s} 1\n", p->name, p->labels);
    }
}

static void whole_page(void **state) {
    static struct series all[SERIES_MAX];
    struct schema *w = schema_of(rows, ARRAY_LEN(rows)), *p = NULL, *c = NULL;
    FILE *tool;
    size_t n;
    int rc;

    (void)state;
    assert_int_equal(proc_schema(&p), 0);
    assert_int_equal(cgroup_schema(&c), 0);
    n = add_all(w, all, 0);
    n = add_all(p, all, n);
    n = add_all(c, all, n);
    qsort(all, n, sizeof(all[0]), by_name);
    check_collisions(all, n);
    (void)signal(SIGPIPE, SIG_IGN);
    tool = popen("if command -v promtool >/dev/null; then promtool check metrics; else exit 77; fi",
                 "w");
    assert_non_null(tool);
    print_page(tool, all, n);
    rc = pclose(tool);
    for (size_t i = 0; i < n; i++)
        prometheus_name_clear(&all[i].p);
    schema_unref(w);
    schema_unref(p);
    schema_unref(c);
    if (WIFEXITED(rc) && WEXITSTATUS(rc) == 77) {
        print_message("promtool is not installed\n");
        skip();
    }
    assert_int_equal(rc, 0);
}

static void out_of_memory(void **state) {
    struct schema *s = schema_of(&rows[0], 1);
    long live = mem_live();
    struct prometheus_name p;
    int rc = -1;

    (void)state;
    for (long n = 1; rc != 0; n++) {
        mem_fail_only(n);
        rc = vocabulary_prometheus(&s->fields[0], &p);
        mem_fail_only(0);
        assert_true(rc == 0 || (rc == -ENOMEM && mem_live() == live));
    }
    prometheus_name_clear(&p);
    prometheus_name_clear(&p); /* all zero is fine */
    schema_unref(s);
}

static int no_leak(void **state) {
    (void)state;
    return mem_live() == 0 ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(names_of_workers, no_leak),
        cmocka_unit_test_teardown(names_of_foreign_workers, no_leak),
        cmocka_unit_test_teardown(refused, no_leak),
        cmocka_unit_test_teardown(longest, no_leak),
        cmocka_unit_test_teardown(whole_page, no_leak),
        cmocka_unit_test_teardown(out_of_memory, no_leak),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
