#include "agent/base/schema.h"

#include <errno.h>

#include "agent/base/buf.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"

#define KEY_BYTES 2048

/* Schemas in use. Few: one a version of Node.js and kind of thread. */
static struct {
    struct schema **items;
    size_t n;
} shared;

static void free_field(struct field *f) {
    for (size_t i = 0; f->attributes != NULL && i < 2u * f->n_attributes; i++)
        mem_free(f->attributes[i]);
    mem_free(f->attributes);
    mem_free(f->bounds);
    mem_free(f->unit);
    mem_free(f->key);
    mem_free(f->name);
}

static void unshare(struct schema *s) {
    for (size_t i = 0; i < shared.n; i++) {
        if (shared.items[i] != s)
            continue;
        shared.items[i] = shared.items[--shared.n];
        break;
    }
    if (shared.n == 0) {
        mem_free(shared.items);
        shared.items = NULL;
    }
}

struct schema *schema_ref(struct schema *s) {
    s->refs++;
    return s;
}

void schema_unref(struct schema *s) {
    if (s == NULL || --s->refs > 0)
        return;
    unshare(s);
    for (size_t i = 0; i < s->n_fields; i++)
        free_field(&s->fields[i]);
    mem_free(s->keys);
    mem_free(s->fields);
    mem_free(s);
}

const struct field *schema_find(const struct schema *s, const char *key) {
    for (size_t i = 0; i < s->n_fields; i++)
        if (strcmp(s->fields[i].key, key) == 0)
            return &s->fields[i];
    return NULL;
}

int schema_new(struct schema **ret, size_t n_fields) {
    struct schema *s = mem_calloc(1, sizeof(*s));

    if (s == NULL)
        return -ENOMEM;
    s->fields = mem_calloc(n_fields, sizeof(*s->fields));
    if (s->fields == NULL) {
        mem_free(s);
        return -ENOMEM;
    }
    s->refs = 1;
    *ret = s;
    return 0;
}

/* Insertion sort of pairs: there are four at most. */
static int copy_attributes(struct field *f, const char *const *attributes, size_t n) {
    if (n == 0)
        return 0;
    f->attributes = mem_calloc(2 * n, sizeof(char *));
    if (f->attributes == NULL)
        return -ENOMEM;
    f->n_attributes = (uint16_t)n;
    for (size_t i = 0; i < n; i++) {
        char *key = mem_strdup(attributes[2 * i]), *value = mem_strdup(attributes[2 * i + 1]);
        size_t at = i;

        for (; key != NULL && at > 0 && strcmp(f->attributes[2 * at - 2], key) > 0; at--) {
            f->attributes[2 * at] = f->attributes[2 * at - 2];
            f->attributes[2 * at + 1] = f->attributes[2 * at - 1];
        }
        f->attributes[2 * at] = key;
        f->attributes[2 * at + 1] = value;
        if (key == NULL || value == NULL)
            return -ENOMEM;
    }
    return 0;
}

static int make_key(struct field *f) {
    struct buf b;

    buf_init(&b, KEY_BYTES);
    buf_puts(&b, f->name);
    for (size_t i = 0; i < f->n_attributes; i++)
        buf_printf(&b, "%c%s=%s", i == 0 ? '{' : ',', f->attributes[2 * i],
                   f->attributes[2 * i + 1]);
    if (f->n_attributes > 0)
        buf_putc(&b, '}');
    f->key = b.err == 0 ? mem_strdup(b.data) : NULL;
    buf_clear(&b);
    return f->key != NULL ? 0 : -ENOMEM;
}

int schema_add(struct schema *s, const char *name, const char *const *attributes,
               size_t n_attributes, const char *unit, enum field_kind kind, const double *bounds,
               size_t n_bounds) {
    size_t slots = kind == FIELD_HISTOGRAM ? n_bounds + 2 : 1;
    struct field f = {.kind = kind, .slot = s->n_slots};
    int rc;

    if (slots > LIMIT_SLOTS - (size_t)s->n_slots)
        return -EINVAL;
    f.name = mem_strdup(name);
    f.unit = mem_strdup(unit);
    if (kind == FIELD_HISTOGRAM) {
        f.bounds = mem_memdup(bounds, n_bounds * sizeof(*bounds));
        f.n_bounds = (uint16_t)n_bounds;
    }
    rc = f.name == NULL || f.unit == NULL || (kind == FIELD_HISTOGRAM && f.bounds == NULL) ? -ENOMEM
                                                                                           : 0;
    if (rc == 0)
        rc = copy_attributes(&f, attributes, n_attributes);
    if (rc == 0)
        rc = make_key(&f);
    if (rc == 0 && schema_find(s, f.key) != NULL)
        rc = -EINVAL;
    if (rc != 0) {
        free_field(&f);
        return rc;
    }
    s->fields[s->n_fields++] = f;
    s->n_slots = (uint16_t)(s->n_slots + slots);
    return 0;
}

static int equal(const struct schema *a, const struct schema *b) {
    if (a->n_fields != b->n_fields || a->n_slots != b->n_slots)
        return 0;
    for (size_t i = 0; i < a->n_fields; i++) {
        const struct field *f = &a->fields[i], *g = &b->fields[i];

        if (f->kind != g->kind || f->n_bounds != g->n_bounds || strcmp(f->key, g->key) != 0 ||
            strcmp(f->unit, g->unit) != 0)
            return 0;
        if (f->n_bounds > 0 && memcmp(f->bounds, g->bounds, f->n_bounds * sizeof(double)) != 0)
            return 0;
    }
    return 1;
}

struct schema *schema_intern(struct schema *s) {
    struct schema **items;

    for (size_t i = 0; i < shared.n; i++)
        if (shared.items[i] == s || equal(shared.items[i], s)) {
            struct schema *same = schema_ref(shared.items[i]);

            schema_unref(s);
            return same;
        }
    items = mem_realloc(shared.items, (shared.n + 1) * sizeof(*items));
    if (items != NULL) { /* without memory it is only not shared */
        shared.items = items;
        shared.items[shared.n++] = s;
    }
    return s;
}
