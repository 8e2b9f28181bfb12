#include "agent/metrics_own.h"

#include <math.h>
#include <time.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/mem.h"
#include "agent/status.h"

static void header(struct buf *out, const char *name, const char *type, const char *help) {
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* In a label's value a backslash, a quote and a line feed are escaped, and nothing else may be. */
static void put_label(struct buf *out, const char *s) {
    for (; *s != '\0'; s++) {
        if (*s == '\\' || *s == '"')
            buf_putc(out, '\\');
        if (*s == '\n')
            buf_puts(out, "\\n");
        else
            buf_putc(out, *s);
    }
}

static void put_who(struct buf *out, const char *name, const struct worker *w) {
    buf_printf(out, "%s{worker=\"%s\",role=\"%s\"", name, w->id, w->role);
    if (w->thread != 0)
        buf_printf(out, ",thread=\"%u\"", (unsigned)w->thread);
}

/* Unix time; the start is counted in ticks since the machine started. NaN when it is not known. */
static double start_time(const struct worker *w) {
    double ticks = (double)sysconf(_SC_CLK_TCK);

    if (w->start_ticks == 0 || w->thread != 0)
        return NAN;
    return (double)(clock_wall_ms() - (int64_t)clock_boot_ms()) / 1000.0 +
           (double)w->start_ticks / ticks;
}

static void put_start(struct buf *out, const struct worker *w) {
    double start = start_time(w);

    if (!isfinite(start))
        return;
    put_who(out, "process_start_time_seconds", w);
    buf_puts(out, "} ");
    buf_number(out, round(start * 100) / 100); /* no finer than the ticks */
    buf_putc(out, '\n');
}

static void put_node(struct buf *out, const struct worker *w) {
    unsigned major, minor, patch;

    if (sscanf(w->node, "v%u.%u.%u", &major, &minor, &patch) != 3)
        return;
    put_who(out, "nodejs_version_info", w);
    buf_puts(out, ",version=\"");
    put_label(out, w->node);
    buf_printf(out, "\",major=\"%u\",minor=\"%u\",patch=\"%u\"} 1\n", major, minor, patch);
}

static void put_state(struct buf *out, const struct worker *w) {
    put_who(out, "pillion_worker_state", w);
    buf_printf(out, ",state=\"%s\"} 1\n", worker_state_name(w->state));
}

static const struct {
    const char *name, *help;
    void (*put)(struct buf *out, const struct worker *w);
} of_workers[] = {
    {"process_start_time_seconds", "Start time of the process since unix epoch in seconds.",
     put_start},
    {"nodejs_version_info", "Node.js version info.", put_node},
    {"pillion_worker_state", "1 for the state that a worker is in: live, blocked or silent.",
     put_state},
};

static void put_workers(const struct status *s, const char *worker, struct buf *out) {
    for (size_t m = 0; m < ARRAY_LEN(of_workers); m++) {
        size_t start = out->len, body;

        header(out, of_workers[m].name, "gauge", of_workers[m].help);
        body = out->len;
        for (size_t i = 0; i < workers_count(s->workers); i++) {
            const struct worker *w = workers_at(s->workers, i);

            if (w->state != WORKER_GONE && status_worker_matches(w, worker))
                of_workers[m].put(out, w);
        }
        if (out->err == 0 && out->len == body) {
            out->len = start;
            out->data[start] = '\0';
        }
    }
}

static void put_counts(const struct status *s, struct buf *out) {
    size_t n[WORKER_GONE + 1] = {0};

    for (size_t i = 0; i < workers_count(s->workers); i++)
        n[workers_at(s->workers, i)->state]++;
    header(out, "pillion_workers", "gauge", "Workers and worker threads by state.");
    for (unsigned i = 0; i < WORKER_GONE; i++)
        buf_printf(out, "pillion_workers{state=\"%s\"} %zu\n", worker_state_name(i), n[i]);
}

static void put_one(struct buf *out, const char *name, const char *type, const char *help,
                    double v) {
    if (!isfinite(v))
        return;
    header(out, name, type, help);
    buf_printf(out, "%s ", name);
    buf_number(out, v);
    buf_putc(out, '\n');
}

static void put_helper(const struct status *s, struct buf *out) {
    struct helper_numbers n;

    helper_stats_read(s->helper, &n);
    put_one(out, "pillion_helper_resident_memory_bytes", "gauge", "Resident memory of the helper.",
            n.rss_bytes);
    put_one(out, "pillion_helper_cpu_seconds_total", "counter",
            "CPU time that the helper has used.", n.cpu_s);
    put_one(out, "pillion_helper_open_fds", "gauge", "Open file descriptors of the helper.",
            n.descriptors);
    put_one(out, "pillion_helper_loop_lag_max_seconds", "gauge",
            "Longest turn of the helper's loop in the last one to two minutes.", n.lag_max_s);
    put_one(out, "pillion_helper_loop_lag_p99_seconds", "gauge",
            "99th percentile of the turns of the helper's loop in the last one to two minutes.",
            n.lag_p99_s);
    put_one(out, "pillion_helper_uptime_seconds", "gauge", "Time since the helper started.",
            (double)(clock_mono_ms() - s->started_mono_ms) / 1000);
}

static void put_counters(struct buf *out) {
    for (int c = 0; c < COUNTER_COUNT; c++) {
        char name[96];

        (void)snprintf(name, sizeof(name), "pillion_%s_total", counter_name((enum counter)c));
        put_one(out, name, "counter", counter_help((enum counter)c),
                (double)counter_get((enum counter)c));
    }
}

void metrics_own_write(const struct status *s, const char *worker, struct buf *out) {
    put_workers(s, worker, out);
    if (worker != NULL)
        return;
    put_counts(s, out);
    header(out, "pillion_build_info", "gauge", "1, labelled with the helper's version.");
    buf_puts(out, "pillion_build_info{version=\"" PILLION_VERSION "\"} 1\n");
    put_helper(s, out);
    put_counters(out);
}
