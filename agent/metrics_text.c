/* A page is one pass over the families (names) in order. Each source (a worker, the container) has
 * its series in the order of their families as well, and a cursor into them: what a page costs
 * grows with its lines, and nothing is sorted for it.
 *
 *   layout of a schema (made once) ── entries ──► family ──► HELP, TYPE
 *   source = layout + values + labels, made for each page
 *
 * It fails by a lack of memory alone; what was made for a layout by then is freed or stays
 * whole. */
#include "agent/metrics_text.h"

#include <errno.h>
#include <math.h>

#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/metrics_own.h"
#include "agent/status.h"
#include "collectors/vocabulary.h"

#define LABEL_BYTES 160

struct family {
    struct prometheus_name name; /* labels not used */
};

struct entry {
    struct family *family;
    const struct field *field; /* of the layout's schema */
    char *labels;              /* owned */
    bool joins;                /* the same series as the entry before: added to it */
};

struct layout {
    struct schema *schema; /* a reference */
    bool used;
    size_t n;
    struct entry *entries; /* in order of family, then labels */
};

struct metrics_text {
    struct family **families; /* in order of name */
    size_t n_families;
    struct layout **layouts;
    size_t n_layouts;
};

struct source {
    const struct layout *layout;
    const double *values;
    size_t cursor;
    char labels[LABEL_BYTES];
};

/* --- families and layouts --------------------------------------------------------------------- */

static void free_layout(struct layout *l) {
    for (size_t i = 0; i < l->n; i++)
        mem_free(l->entries[i].labels);
    mem_free(l->entries);
    schema_unref(l->schema);
    mem_free(l);
}

static void clear(struct metrics_text *t) {
    for (size_t i = 0; i < t->n_layouts; i++)
        free_layout(t->layouts[i]);
    for (size_t i = 0; i < t->n_families; i++) {
        prometheus_name_clear(&t->families[i]->name);
        mem_free(t->families[i]);
    }
    mem_free(t->layouts);
    mem_free(t->families);
    *t = (struct metrics_text){0};
}

int metrics_text_new(struct metrics_text **ret) {
    *ret = mem_calloc(1, sizeof(**ret));
    return *ret != NULL ? 0 : -ENOMEM;
}

void metrics_text_free(struct metrics_text *t) {
    if (t == NULL)
        return;
    clear(t);
    mem_free(t);
}

/* Where `name` stands or belongs. */
static size_t family_place(const struct metrics_text *t, const char *name) {
    size_t low = 0, high = t->n_families;

    while (low < high) {
        size_t mid = (low + high) / 2;

        if (strcmp(t->families[mid]->name.name, name) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Takes `name` on success. */
static int add_family(struct metrics_text *t, size_t at, struct prometheus_name *name,
                      struct family **ret) {
    struct family *f = mem_alloc(sizeof(*f)), **grown;

    if (f == NULL)
        return -ENOMEM;
    grown = mem_realloc(t->families, (t->n_families + 1) * sizeof(*grown));
    if (grown == NULL) {
        mem_free(f);
        return -ENOMEM;
    }
    t->families = grown;
    memmove(grown + at + 1, grown + at, (t->n_families - at) * sizeof(*grown));
    f->name = *name;
    grown[at] = f;
    t->n_families++;
    *name = (struct prometheus_name){0};
    *ret = f;
    return 0;
}

/* Takes `name` in every case. */
static int add_entry(struct metrics_text *t, struct layout *l, const struct field *field,
                     struct prometheus_name *name) {
    size_t at = family_place(t, name->name);
    struct family *f = at < t->n_families ? t->families[at] : NULL;
    char *labels = mem_strdup(name->labels);
    int rc = labels != NULL ? 0 : -ENOMEM;

    if (rc == 0 && (f == NULL || strcmp(f->name.name, name->name) != 0))
        rc = add_family(t, at, name, &f);
    else if (rc == 0 && strcmp(f->name.type, name->type) != 0)
        rc = -EEXIST; /* one name has one type: the first one stays */
    if (rc == 0)
        l->entries[l->n++] = (struct entry){.family = f, .field = field, .labels = labels};
    else
        mem_free(labels);
    prometheus_name_clear(name);
    return rc == -EEXIST ? 0 : rc;
}

static int add_field(struct metrics_text *t, struct layout *l, const struct field *field) {
    struct prometheus_name name = {0};
    int rc = vocabulary_prometheus(field, &name);

    if (rc == -ENOMEM)
        return rc;
    if (rc == 0 && text_starts(name.name, METRICS_OWN_PREFIX)) {
        prometheus_name_clear(&name);
        return 0; /* a worker that would speak for the helper */
    }
    if (rc == 0)
        rc = add_entry(t, l, field, &name);
    if (rc != 0)
        return rc == -ENOMEM ? rc : 0; /* not one that has a place on the page */
    rc = vocabulary_prometheus_sum(field, &name);
    if (rc == 0)
        rc = add_entry(t, l, field, &name);
    return rc == -ENOMEM ? rc : 0;
}

static int by_family(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    int c = strcmp(x->family->name.name, y->family->name.name);

    if (c == 0)
        c = strcmp(x->labels, y->labels);
    return c != 0 ? c : (x->field > y->field) - (x->field < y->field);
}

static int make_layout(struct metrics_text *t, struct schema *s, struct layout **ret) {
    struct layout *l = mem_calloc(1, sizeof(*l)), **grown;
    int rc = 0;

    if (l == NULL)
        return -ENOMEM;
    l->schema = schema_ref(s);
    l->entries = mem_calloc(2u * s->n_fields, sizeof(*l->entries));
    rc = l->entries != NULL ? 0 : -ENOMEM;
    for (size_t i = 0; rc == 0 && i < s->n_fields; i++)
        rc = add_field(t, l, &s->fields[i]);
    grown = rc == 0 ? mem_realloc(t->layouts, (t->n_layouts + 1) * sizeof(*grown)) : NULL;
    if (grown == NULL) {
        free_layout(l);
        return -ENOMEM;
    }
    qsort(l->entries, l->n, sizeof(*l->entries), by_family);
    for (size_t i = 1; i < l->n; i++)
        l->entries[i].joins = l->entries[i].family == l->entries[i - 1].family &&
                              strcmp(l->entries[i].labels, l->entries[i - 1].labels) == 0;
    t->layouts = grown;
    t->layouts[t->n_layouts++] = l;
    *ret = l;
    return 0;
}

static struct layout *find_layout(const struct metrics_text *t, const struct schema *s) {
    for (size_t i = 0; i < t->n_layouts; i++)
        if (t->layouts[i]->schema == s)
            return t->layouts[i];
    return NULL;
}

static bool shown(const struct worker *w) {
    return w->state != WORKER_GONE && w->schema != NULL;
}

/* Layouts come and go with releases of an application: when one is not in use any more, all is
 * made anew. */
static void forget_unused(struct metrics_text *t, const struct status *s) {
    for (size_t i = 0; i < t->n_layouts; i++)
        t->layouts[i]->used = t->layouts[i]->schema == s->container_schema;
    for (size_t i = 0; i < workers_count(s->workers); i++) {
        const struct worker *w = workers_at(s->workers, i);
        struct layout *l = shown(w) ? find_layout(t, w->schema) : NULL;

        if (l != NULL)
            l->used = true;
    }
    for (size_t i = 0; i < t->n_layouts; i++)
        if (!t->layouts[i]->used) {
            clear(t);
            return;
        }
}

/* --- sources and lines ------------------------------------------------------------------------ */

static int add_source(struct metrics_text *t, struct source *src, struct schema *schema,
                      const double *values) {
    struct layout *l = find_layout(t, schema);
    int rc = l == NULL ? make_layout(t, schema, &l) : 0;

    src->layout = l;
    src->values = values;
    src->cursor = 0;
    return rc;
}

/* ids and roles are made of digits and letters by ourselves: nothing in them needs to be
 * escaped. */
static void worker_labels(const struct worker *w, char *out, size_t size) {
    if (w->thread == 0)
        (void)snprintf(out, size, "worker=\"%s\",role=\"%s\"", w->id, w->role);
    else
        (void)snprintf(out, size, "worker=\"%s\",role=\"%s\",thread=\"%u\"", w->id, w->role,
                       (unsigned)w->thread);
}

static int make_sources(struct metrics_text *t, const struct status *s, const char *worker,
                        struct source *sources, size_t *ret_n) {
    size_t n = 0;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < workers_count(s->workers); i++) {
        const struct worker *w = workers_at(s->workers, i);

        if (!shown(w) || !status_worker_matches(w, worker))
            continue;
        worker_labels(w, sources[n].labels, sizeof(sources[n].labels));
        rc = add_source(t, &sources[n++], w->schema, w->values);
    }
    if (rc == 0 && worker == NULL && s->container_schema != NULL && s->container_values != NULL) {
        sources[n].labels[0] = '\0';
        rc = add_source(t, &sources[n++], (struct schema *)(uintptr_t)s->container_schema,
                        s->container_values);
    }
    *ret_n = n;
    return rc;
}

/* name + suffix {labels of the source, labels of the entry, le} value */
static void put_line(struct buf *out, const struct source *src, const struct entry *e,
                     const char *suffix, const char *le, double value) {
    bool first = src->labels[0] == '\0';

    buf_puts(out, e->family->name.name);
    buf_puts(out, suffix);
    if (!first || e->labels[0] != '\0' || le != NULL) {
        buf_putc(out, '{');
        buf_puts(out, src->labels);
        if (e->labels[0] != '\0') {
            buf_puts(out, first ? "" : ",");
            buf_puts(out, e->labels);
            first = false;
        }
        if (le != NULL)
            buf_printf(out, "%sle=\"%s\"", first ? "" : ",", le);
        buf_putc(out, '}');
    }
    buf_putc(out, ' ');
    buf_number(out, value);
    buf_putc(out, '\n');
}

static size_t put_histogram(struct buf *out, const struct source *src, const struct entry *e) {
    const struct field *f = e->field;
    const double *slots = src->values + f->slot;
    double count = 0;

    for (size_t i = 0; i < f->n_bounds + 2u; i++)
        if (!isfinite(slots[i]))
            return 0;
    if (out == NULL)
        return f->n_bounds + 3u;
    for (size_t i = 0; i <= f->n_bounds; i++) {
        char le[BUF_NUMBER_BYTES + 1] = "+Inf";

        if (i < f->n_bounds)
            le[buf_format_number(le, f->bounds[i])] = '\0';
        count += slots[i];
        put_line(out, src, e, "_bucket", le, count);
    }
    put_line(out, src, e, "_sum", NULL, slots[f->n_bounds + 1]);
    put_line(out, src, e, "_count", NULL, count);
    return f->n_bounds + 3u;
}

/* The series that begins at the cursor, over all entries that join it. Returns its lines; `out`
 * NULL: counts only. */
static size_t put_series(struct buf *out, struct source *src) {
    const struct layout *l = src->layout;
    const struct entry *e = &l->entries[src->cursor];
    double sum = NAN;

    do {
        double v = src->values[l->entries[src->cursor].field->slot];

        if (isfinite(v))
            sum = isfinite(sum) ? sum + v : v;
        src->cursor++;
    } while (src->cursor < l->n && l->entries[src->cursor].joins);
    if (e->field->kind == FIELD_HISTOGRAM)
        return put_histogram(out, src, e);
    if (!isfinite(sum))
        return 0;
    if (out != NULL)
        put_line(out, src, e, "", NULL, sum);
    return 1;
}

struct page {
    struct buf *out;
    size_t lines, left_out;
};

/* The lines of one series stay together: a histogram without its last bucket would be wrong. */
static void put_family(struct page *p, const struct family *f, struct source *sources, size_t n) {
    size_t start = p->out->len, body;

    buf_printf(p->out, "# HELP %s %s\n# TYPE %s %s\n", f->name.name, f->name.help, f->name.name,
               f->name.type);
    body = p->out->len;
    for (size_t i = 0; i < n; i++) {
        struct source *src = &sources[i];

        while (src->cursor < src->layout->n && src->layout->entries[src->cursor].family == f) {
            bool room = p->lines + LIMIT_BOUNDS + 3 <= LIMIT_SERIES;
            size_t lines = put_series(room ? p->out : NULL, src);

            *(room ? &p->lines : &p->left_out) += lines;
        }
    }
    if (p->out->err == 0 && p->out->len == body) { /* no series: no header either */
        p->out->len = start;
        p->out->data[start] = '\0';
    }
}

int metrics_text_write(struct metrics_text *t, const struct status *s, const char *worker,
                       struct buf *out) {
    size_t n = 0, most = workers_count(s->workers) + 1;
    struct page p = {.out = out};
    struct source *sources;
    int rc;

    forget_unused(t, s);
    sources = mem_alloc(most * sizeof(*sources));
    if (sources == NULL)
        return -ENOMEM;
    rc = make_sources(t, s, worker, sources, &n);
    if (rc == 0) {
        for (size_t i = 0; i < t->n_families; i++)
            put_family(&p, t->families[i], sources, n);
        counter_add(COUNTER_SERIES_LEFT_OUT, p.left_out);
        metrics_own_write(s, worker, out);
        rc = out->err;
    }
    mem_free(sources);
    return rc;
}
