#include "collectors/heapsnapshot/meta.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

/* DevTools' names for what has no class of its own (HeapSnapshotNode.className() in front_end/entrypoints/heap_snapshot_worker). */
static const struct {
    const char *type, *label;
} labels[] = {
    {"object", ""},          {"native", ""},
    {"hidden", "(system)"},  {"code", "(compiled code)"},
    {"closure", "Function"}, {"regexp", "RegExp"},
};

static int wrong(char *why, const char *what, const char *name) {
    (void)snprintf(why, META_WHY_BYTES, what, name);
    return -EINVAL;
}

static int read_count(const json_t *snapshot, const char *key, uint64_t *ret, char *why) {
    const json_t *v = json_object_get(snapshot, key);

    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return wrong(why, "its \"snapshot\" has no %s", key);
    *ret = (uint64_t)json_integer_value(v);
    return 0;
}

/* Number of the field with this name, or n. */
static unsigned find_field(const json_t *fields, const char *name) {
    size_t i;
    json_t *v;

    json_array_foreach(fields, i, v) {
        if (json_is_string(v) && strcmp(json_string_value(v), name) == 0)
            return (unsigned)i;
    }
    return META_FIELDS;
}

static int read_fields(struct meta *m, const json_t *meta, char *why) {
    const json_t *fields = json_object_get(meta, "node_fields");
    const json_t *edges = json_object_get(meta, "edge_fields");
    const struct {
        const char *name;
        unsigned *field;
    } wanted[] = {{"type", &m->type},
                  {"name", &m->name},
                  {"self_size", &m->self_size},
                  {"edge_count", &m->edge_count}};

    if (json_array_size(fields) == 0 || json_array_size(fields) > META_FIELDS)
        return wrong(why, "its %s are not those of a heap snapshot", "node_fields");
    if (json_array_size(edges) == 0 || json_array_size(edges) > META_FIELDS)
        return wrong(why, "its %s are not those of a heap snapshot", "edge_fields");
    m->n_fields = (unsigned)json_array_size(fields);
    m->n_edge_fields = (unsigned)json_array_size(edges);
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        *wanted[i].field = find_field(fields, wanted[i].name);
        if (*wanted[i].field == META_FIELDS)
            return wrong(why, "its node_fields have no \"%s\"", wanted[i].name);
    }
    m->detachedness = find_field(fields, "detachedness");
    return 0;
}

static void read_type(struct meta_type *t, const char *name) {
    text_copy(t->name, sizeof(t->name), name);
    for (size_t i = 0; i < ARRAY_LEN(labels); i++) {
        if (strcmp(labels[i].type, name) == 0) {
            text_copy(t->label, sizeof(t->label), labels[i].label);
            return;
        }
    }
    (void)snprintf(t->label, sizeof(t->label), "(%.*s)", META_TYPE_BYTES - 3, t->name);
}

static int read_types(struct meta *m, const json_t *meta, char *why) {
    const json_t *types = json_array_get(json_object_get(meta, "node_types"), m->type);
    size_t i;
    json_t *v;

    if (json_array_size(types) == 0 || json_array_size(types) > META_TYPES)
        return wrong(why, "its %s are not those of a heap snapshot", "node_types");
    json_array_foreach(types, i, v) {
        if (!json_is_string(v) || json_string_length(v) == 0)
            return wrong(why, "its %s are not those of a heap snapshot", "node_types");
        read_type(&m->types[i], json_string_value(v));
    }
    m->n_types = (unsigned)json_array_size(types);
    return 0;
}

int meta_read(struct meta *ret, const char *text, size_t len, char *why) {
    struct meta m = {0};
    json_error_t error;
    json_t *snapshot = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error), *meta;
    int rc;

    if (snapshot == NULL) {
        /* jansson 2.14 often says nothing of what it could not allocate, and sometimes something else. */
        if (error.text[0] == '\0' || json_error_code(&error) == json_error_out_of_memory)
            return -ENOMEM;
        return wrong(why, "its \"snapshot\" is not JSON: %.80s", error.text);
    }
    meta = json_object_get(snapshot, "meta");
    if ((rc = read_count(snapshot, "node_count", &m.nodes_announced, why)) == 0 &&
        (rc = read_count(snapshot, "edge_count", &m.edges_announced, why)) == 0 &&
        (rc = read_fields(&m, meta, why)) == 0)
        rc = read_types(&m, meta, why);
    json_decref(snapshot);
    if (rc == 0)
        *ret = m;
    return rc;
}
