#include "collectors/workers.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

#include "agent/base/clock.h"
#include "agent/base/mem.h"

struct workers {
    struct worker **items; /* in order of appearance */
    size_t n;
    size_t cap;
};

static const char *const state_names[] = {"live", "blocked", "silent", "gone"};

const char *worker_state_name(enum worker_state s) {
    return state_names[s];
}

int workers_new(struct workers **ret) {
    *ret = mem_calloc(1, sizeof(**ret));
    return *ret != NULL ? 0 : -ENOMEM;
}

static void free_worker(struct worker *w) {
    if (w->proc_dirfd >= 0)
        close(w->proc_dirfd);
    schema_unref(w->schema);
    schema_unref(w->inside);
    mem_free(w->values);
    mem_free(w);
}

void workers_free(struct workers *ws) {
    if (ws == NULL)
        return;
    for (size_t i = 0; i < ws->n; i++)
        free_worker(ws->items[i]);
    mem_free(ws->items);
    mem_free(ws);
}

size_t workers_count(const struct workers *ws) {
    return ws->n;
}

struct worker *workers_at(const struct workers *ws, size_t i) {
    return ws->items[i];
}

struct worker *workers_find(const struct workers *ws, const char *id) {
    for (size_t i = 0; i < ws->n; i++)
        if (strcmp(ws->items[i]->id, id) == 0)
            return ws->items[i];
    return NULL;
}

struct worker *workers_find_pid(const struct workers *ws, pid_t pid) {
    for (size_t i = ws->n; i-- > 0;) /* the newest: a pid may have been used before */
        if (ws->items[i]->pid == pid && ws->items[i]->thread == 0)
            return ws->items[i];
    return NULL;
}

void worker_make_id(char out[WORKER_ID_BYTES], pid_t pid, uint64_t start_ticks, uint32_t thread) {
    int n = snprintf(out, WORKER_ID_BYTES, "%ld:%" PRIu64, (long)pid, start_ticks);

    if (thread != 0)
        (void)snprintf(out + n, WORKER_ID_BYTES - (size_t)n, "/%" PRIu32, thread);
}

static int make_room(struct workers *ws) {
    size_t cap = ws->cap > 0 ? ws->cap * 2 : 8;
    struct worker **items;

    if (ws->n < ws->cap)
        return 0;
    if (ws->n >= LIMIT_WORKERS + LIMIT_GONE_KEEP)
        return -EAGAIN;
    items = mem_realloc(ws->items, cap * sizeof(*items));
    if (items == NULL)
        return -ENOMEM;
    ws->items = items;
    ws->cap = cap;
    return 0;
}

int workers_add(struct workers *ws, struct worker **ret, pid_t pid, uint64_t start_ticks,
                uint32_t thread) {
    struct worker *w;
    int rc = make_room(ws);

    if (rc != 0)
        return rc;
    w = mem_calloc(1, sizeof(*w));
    if (w == NULL)
        return -ENOMEM;
    worker_make_id(w->id, pid, start_ticks, thread);
    w->pid = pid;
    w->start_ticks = start_ticks;
    w->thread = thread;
    w->role = thread != 0 ? "thread" : "process";
    w->proc_dirfd = -1;
    w->since_ms = clock_wall_ms();
    for (size_t i = 0; i < LIMIT_HISTORY; i++)
        w->history[i] = (struct worker_point){NAN, NAN, NAN};
    ws->items[ws->n++] = w;
    *ret = w;
    return 0;
}

void workers_remove(struct workers *ws, struct worker *w) {
    for (size_t i = 0; i < ws->n; i++) {
        if (ws->items[i] != w)
            continue;
        memmove(&ws->items[i], &ws->items[i + 1], (ws->n - i - 1) * sizeof(*ws->items));
        ws->n--;
        free_worker(w);
        return;
    }
}

/* Adds one field of `from` to `to`. */
static int copy_field(struct schema *to, const struct field *f) {
    return schema_add(to, f->name, (const char *const *)f->attributes, f->n_attributes, f->unit,
                      f->kind, f->bounds, f->n_bounds);
}

/* What the worker named, then what the kernel alone knows. For a thread the worker's alone: /proc/<pid> is the process. */
static int join_schemas(struct schema **ret, const struct schema *inside,
                        const struct schema *outside) {
    struct schema *s = NULL;
    int rc = schema_new(&s, inside->n_fields + (outside != NULL ? outside->n_fields : 0u));

    for (size_t i = 0; rc == 0 && i < inside->n_fields; i++)
        rc = copy_field(s, &inside->fields[i]);
    for (size_t i = 0; rc == 0 && outside != NULL && i < outside->n_fields; i++) {
        const struct field *known = schema_find(inside, outside->fields[i].key);

        if (known == NULL)
            rc = copy_field(s, &outside->fields[i]);
        else if (known->kind == FIELD_HISTOGRAM) /* a number of the kernel's has no place in it */
            rc = -EINVAL;
    }
    if (rc != 0) {
        schema_unref(s);
        return rc;
    }
    *ret = schema_intern(s);
    return 0;
}

/* Joining costs as much as all else of a hello; a crowd that comes back after a restart has one layout. */
static struct schema *joined_before(const struct workers *ws, const struct worker *w,
                                    const struct schema *inside) {
    for (size_t i = 0; i < ws->n; i++) {
        const struct worker *other = ws->items[i];

        if (other->inside == inside && (other->thread == 0) == (w->thread == 0))
            return schema_ref(other->schema);
    }
    return NULL;
}

int worker_set_layout(const struct workers *ws, struct worker *w, struct schema *inside,
                      const struct schema *outside) {
    struct schema *s = joined_before(ws, w, inside);
    double *values;
    int rc = s != NULL ? 0 : join_schemas(&s, inside, w->thread == 0 ? outside : NULL);

    if (rc != 0)
        return rc;
    values = mem_alloc(s->n_slots * sizeof(*values));
    if (values == NULL) {
        schema_unref(s);
        return -ENOMEM;
    }
    for (size_t i = 0; i < s->n_slots; i++)
        values[i] = NAN;
    schema_unref(w->schema);
    mem_free(w->values);
    (void)schema_ref(inside);
    schema_unref(w->inside);
    w->inside = inside;
    w->schema = s;
    w->values = values;
    w->n_inside = inside->n_slots;
    for (size_t i = 0; i < PROC_METRICS; i++) {
        const struct field *f = w->thread == 0 ? schema_find(s, outside->fields[i].key) : NULL;

        w->outside_slot[i] = f != NULL ? f->slot : WORKER_NO_SLOT;
    }
    return 0;
}

static const bool is_counter[PROC_METRICS] = {
#define GAUGE                  false
#define COUNTER                true
#define X(id, key, unit, kind) [PROC_##id] = kind,
    PROC_TABLE(X)
#undef X
#undef COUNTER
#undef GAUGE
};

/* What both measure (CPU time, resident set) is the worker's own number while it speaks: it is exact, and of the moment of the
 * sample. The kernel's stands in when it is silent; it counts in ticks, so that it may be a little behind: never go back. */
void worker_set_outside(struct worker *w, const double values[PROC_METRICS]) {
    for (size_t i = 0; i < PROC_METRICS; i++) {
        uint16_t slot = w->outside_slot[i];
        double *v;

        if (slot == WORKER_NO_SLOT)
            continue;
        v = &w->values[slot];
        if (slot >= w->n_inside)
            *v = values[i];
        else if (isnan(*v) || (w->state != WORKER_LIVE && !(is_counter[i] && values[i] < *v)))
            *v = isnan(values[i]) ? *v : values[i];
    }
}

static bool kernel_knows(const struct worker *w, size_t slot) {
    for (size_t i = 0; i < PROC_METRICS; i++)
        if (w->outside_slot[i] == slot)
            return true;
    return false;
}

void worker_forget_inside(struct worker *w) {
    for (size_t i = 0; i < w->n_inside; i++)
        if (!kernel_knows(w, i))
            w->values[i] = NAN;
}

double worker_value(const struct worker *w, const char *key) {
    const struct field *f = w->schema != NULL ? schema_find(w->schema, key) : NULL;

    return f != NULL && f->kind != FIELD_HISTOGRAM ? w->values[f->slot] : NAN;
}

static double first_known(double a, double b) {
    return isnan(a) ? b : a;
}

void worker_add_point(struct worker *w, double cores) {
    w->history[w->history_next] = (struct worker_point){
        .cpu = (float)cores,
        .memory = (float)first_known(worker_value(w, "process.memory.usage"),
                                     worker_value(w, "pillion.memory.heap.used")),
        .utilization = (float)worker_value(w, "nodejs.eventloop.utilization"),
    };
    w->history_next = (uint8_t)((w->history_next + 1) % LIMIT_HISTORY);
}
