/* schema.h - the layout of a sample: which number stands where. Made from a worker's hello (ipc/PROTOCOL.md), shared by all
 * workers that named the same fields (64 workers of one application have one), immutable once made. Loop thread only. */
#ifndef PILLION_SCHEMA_H
#define PILLION_SCHEMA_H

#include <stddef.h>
#include <stdint.h>

enum field_kind { FIELD_GAUGE, FIELD_COUNTER, FIELD_HISTOGRAM };

struct field {
    char *name; /* "v8js.memory.heap.used" */
    char *
        key; /* name{key=value,…} with attributes sorted by key; equal to name without attributes */
    char *unit; /* UCUM: "s", "By", "1" */
    enum field_kind kind;
    uint16_t
        slot; /* first slot; a histogram takes n_bounds + 2: buckets (not cumulative), then the sum */
    uint16_t n_bounds;
    double *bounds; /* NULL unless a histogram */
    uint16_t n_attributes;
    char **attributes; /* key, value, key, value …; sorted by key */
};

struct schema {
    unsigned refs;
    uint16_t n_fields;
    uint16_t n_slots;
    struct field *fields;
    struct schema_keys
        *keys; /* of collectors/record.c: made at the first use, one block, freed with the schema */
};

struct schema *schema_ref(struct schema *s);
void schema_unref(struct schema *s); /* frees with the last; NULL is fine */

/* The field with this key, or NULL. Linear: look up once, keep the slot. */
const struct field *schema_find(const struct schema *s, const char *key);

/* Building: schema_new() with room for n fields, schema_add() in order, then share it with schema_intern(). */
int schema_new(struct schema **ret, size_t n_fields);
/* Copies everything. `attributes` need not be sorted. -EINVAL: more slots than LIMIT_SLOTS, or the key is there already. */
int schema_add(struct schema *s, const char *name, const char *const *attributes,
               size_t n_attributes, const char *unit, enum field_kind kind, const double *bounds,
               size_t n_bounds);
/* Gives up the caller's reference to s and returns a reference to an equal one that is alive, or to s itself. */
struct schema *schema_intern(struct schema *s);

#endif
