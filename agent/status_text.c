#include "agent/status_text.h"

#include <math.h>

#include "agent/base/clock.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/human.h"
#include "agent/rows.h"
#include "agent/status.h"
#include "collectors/cgroup.h"

static void fill_row(struct row *r, const struct worker *w) {
    *r = (struct row){.pid = w->pid, .thread = w->thread, .cpu = NAN};
    (void)text_copy(r->role, sizeof(r->role), w->role); /* cut is fine: these are for the eye */
    (void)text_copy(r->state, sizeof(r->state), worker_state_name(w->state));
    (void)text_copy(r->node, sizeof(r->node), w->node);
    (void)text_copy(r->title, sizeof(r->title), w->title);
    r->memory = r->heap = r->heap_size = r->loop = r->lag = NAN;
    if (w->schema != NULL) {
        r->memory = worker_value(w, "process.memory.usage");
        r->heap = worker_value(w, "pillion.memory.heap.used");
        r->heap_size = worker_value(w, "pillion.memory.heap.limit");
        r->loop = worker_value(w, "nodejs.eventloop.utilization");
        r->lag = worker_value(w, "nodejs.eventloop.delay.p99");
    }
    for (size_t i = 0; i < LIMIT_HISTORY; i++) {
        const struct worker_point *p = &w->history[(w->history_next + i) % LIMIT_HISTORY];

        if (r->n_history > 0 || !isnan(p->cpu))
            r->history[r->n_history++] = p->cpu;
    }
    if (r->n_history > 0)
        r->cpu = r->history[r->n_history - 1];
}

static void put_workers(const struct status *s, struct buf *out) {
    const struct rows_style style = {.width = 100, .utf8 = true};
    size_t n = workers_count(s->workers);
    struct row *rows;

    if (n == 0) {
        buf_puts(out, "No worker has connected yet.\n");
        return;
    }
    rows = mem_alloc(n * sizeof(*rows));
    if (rows == NULL) {
        buf_puts(out, "(no memory for the table of workers)\n");
        return;
    }
    for (size_t i = 0; i < n; i++)
        fill_row(&rows[i], workers_at(s->workers, i));
    rows_sort(rows, n, ROW_CPU, false);
    rows_write(out, rows, n, &style);
    mem_free(rows);
}

static void put_container(const struct status *s, struct buf *out) {
    const double *v = s->container_values;
    char a[HUMAN_BYTES], b[HUMAN_BYTES];

    if (v == NULL)
        return;
    human_percent(v[CGROUP_CPU_OF_LIMIT], a);
    buf_puts(out, "container: CPU ");
    if (isfinite(v[CGROUP_CPU_USAGE]))
        buf_printf(out, "%.2f", v[CGROUP_CPU_USAGE]);
    else
        buf_putc(out, '-');
    if (isfinite(v[CGROUP_CPU_AVAILABLE]))
        buf_printf(out, " of %.2f", v[CGROUP_CPU_AVAILABLE]);
    if (isfinite(v[CGROUP_CPU_OF_LIMIT]))
        buf_printf(out, " (%s%%)", a);
    human_bytes(v[CGROUP_MEMORY_WORKING_SET], a);
    human_bytes(v[CGROUP_MEMORY_LIMIT], b);
    buf_printf(out, "   memory %s", a);
    if (isfinite(v[CGROUP_MEMORY_LIMIT]))
        buf_printf(out, " of %s", b);
    human_seconds(v[CGROUP_CPU_THROTTLED_TIME], a);
    human_number(v[CGROUP_MEMORY_OOM_KILLS], b);
    buf_printf(out, "   throttled %s   OOM kills %s   (cgroup %s)\n", a, b,
               s->container_layout != NULL ? s->container_layout : "none");
}

void status_text(const struct status *s, struct buf *out) {
    char up[HUMAN_BYTES], memory[HUMAN_BYTES], cpu[HUMAN_BYTES], lag[HUMAN_BYTES];
    struct helper_numbers n;

    helper_stats_read(s->helper, &n);
    human_seconds((double)(clock_mono_ms() - s->started_mono_ms) / 1000, up);
    human_bytes(n.rss_bytes, memory);
    human_percent(n.cpu, cpu);
    human_seconds(n.lag_max_s, lag);
    buf_puts(out, "pillion " PILLION_VERSION " beside ");
    human_cell(out, s->app, 60, false, true);
    buf_puts(out, " on ");
    human_cell(out, s->config->instance, 60, false, true);
    buf_printf(out, ", up %s\nhelper: %s resident, CPU %s%%, longest turn of its loop %s\n", up,
               memory, cpu, lag);
    put_container(s, out);
    buf_putc(out, '\n');
    put_workers(s, out);
}
