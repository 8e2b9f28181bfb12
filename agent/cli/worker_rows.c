#include "agent/cli/worker_rows.h"

#include <errno.h>
#include <math.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/cli/client.h"

static void fill_history(struct row *r, const json_t *worker) {
    const json_t *points = json_object_get(json_object_get(worker, "history"), "cpu");
    size_t n = json_array_size(points), first = n > LIMIT_HISTORY ? n - LIMIT_HISTORY : 0;

    for (size_t i = first; i < n; i++) {
        const json_t *v = json_array_get(points, i);

        r->history[r->n_history++] = json_is_number(v) ? json_number_value(v) : NAN;
    }
    r->cpu = r->n_history > 0 ? r->history[r->n_history - 1] : NAN;
}

static void fill(struct row *r, const json_t *worker) {
    const json_t *m = json_object_get(worker, "metrics");

    *r = (struct row){.pid = (pid_t)json_integer_value(json_object_get(worker, "pid")),
                      .thread = (unsigned)json_integer_value(json_object_get(worker, "thread"))};
    (void)text_copy(r->role, sizeof(r->role), client_string(worker, "role")); /* cut is fine */
    (void)text_copy(r->state, sizeof(r->state), client_string(worker, "state"));
    (void)text_copy(r->node, sizeof(r->node), client_string(worker, "node"));
    (void)text_copy(r->title, sizeof(r->title), client_string(worker, "title"));
    r->memory = client_number(m, "process.memory.usage");
    r->heap = client_number(m, "pillion.memory.heap.used");
    r->heap_size = client_number(m, "pillion.memory.heap.limit");
    r->loop = client_number(m, "nodejs.eventloop.utilization");
    r->lag = client_number(m, "nodejs.eventloop.delay.p99");
    fill_history(r, worker);
}

int worker_rows(const json_t *page, struct row **ret, size_t *ret_n) {
    const json_t *workers = json_object_get(page, "workers");
    size_t n = json_array_size(workers);
    struct row *rows = NULL;

    if (n > 0) {
        rows = mem_alloc(n * sizeof(*rows));
        if (rows == NULL)
            return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++)
        fill(&rows[i], json_array_get(workers, i));
    *ret = rows;
    *ret_n = n;
    return 0;
}
