/* write_pprof.c - profile.proto of pprof, gzip, written message by message. https://github.com/google/pprof, proto/profile.proto
 *
 * A location for each function, one sample for each node that weighs something, callee first. Strings keep their numbers (number 0 is
 * "" here and there); those of our own come after them. */
#include "agent/base/mem.h"
#include "collectors/flamegraph/write.h"

enum { SAMPLE_TYPE = 1, SAMPLE, LOCATION = 4, FUNCTION, STRING, DURATION_NANOS = 10 };
enum own { OWN_TYPE, OWN_UNIT, OWN_ANONYMOUS, OWN_STRINGS };

#define KEY(field, wire) ((uint64_t)(field) << 3 | (wire))

static size_t varint_len(uint64_t v) {
    size_t n = 1;

    while ((v >>= 7) > 0)
        n++;
    return n;
}

static void number(struct out *o, unsigned field, uint64_t v) {
    out_varint(o, KEY(field, 0));
    out_varint(o, v);
}

static size_t number_len(uint64_t v) {
    return 1 + varint_len(v); /* fields below 16 only */
}

static void message(struct out *o, unsigned field, size_t len) {
    out_varint(o, KEY(field, 2));
    out_varint(o, len);
}

static void write_types(const struct writing *w, uint32_t own) {
    message(w->o, SAMPLE_TYPE, number_len(own + OWN_TYPE) + number_len(own + OWN_UNIT));
    number(w->o, 1, own + OWN_TYPE);
    number(w->o, 2, own + OWN_UNIT);
    if (w->g->facts.duration_us > 0)
        number(w->o, DURATION_NANOS, w->g->facts.duration_us * 1000);
}

static void write_samples(const struct writing *w) {
    const struct graph *g = w->g;
    uint32_t depth = 0, node = 0;

    while ((node = graph_next(g, node, &depth)) != 0) {
        uint64_t value = g->unit == GRAPH_MICROSECONDS ? g->self[node] * 1000 : g->self[node];
        size_t ids = 0;

        if (value == 0)
            continue;
        for (uint32_t k = node; k != 0; k = g->parent[k])
            ids += varint_len(g->frame[k]);
        message(w->o, SAMPLE,
                1 + varint_len(ids) + ids + 1 + varint_len(varint_len(value)) + varint_len(value));
        message(w->o, 1, ids);
        for (uint32_t k = node; k != 0; k = g->parent[k])
            out_varint(w->o, g->frame[k]);
        message(w->o, 2, varint_len(value));
        out_varint(w->o, value);
    }
}

static void write_frames(const struct writing *w, uint32_t own) {
    const struct names *names = w->g->names;

    for (uint32_t i = 1; i < names_frames(names); i++) {
        const struct frame *f = names_at(names, i);
        uint64_t line = f->line > 0 ? (uint64_t)f->line : 0;
        uint64_t name = f->name != 0 ? f->name : own + OWN_ANONYMOUS;
        size_t inner = number_len(i) + number_len(line);

        message(w->o, LOCATION, number_len(i) + 1 + varint_len(inner) + inner);
        number(w->o, 1, i);
        message(w->o, 4, inner);
        number(w->o, 1, i);
        number(w->o, 2, line);
        message(w->o, FUNCTION,
                number_len(i) + 2 * number_len(name) + number_len(f->url) + number_len(line));
        number(w->o, 1, i);
        number(w->o, 2, name);
        number(w->o, 3, name);
        number(w->o, 4, f->url);
        number(w->o, 5, line);
    }
}

static void write_string(struct out *o, const char *s) {
    size_t n = strlen(s);

    message(o, STRING, n);
    out_add(o, s, n);
}

int write_pprof(const struct writing *w) {
    static const char *const types[] = {"cpu", "inuse_space", "samples"};
    static const char *const units[] = {"nanoseconds", "bytes", "count"};
    uint32_t own = names_strings(w->g->names);

    write_types(w, own);
    write_samples(w);
    write_frames(w, own);
    for (uint32_t i = 0; i < own; i++)
        write_string(w->o, names_text(w->g->names, i));
    write_string(w->o, types[w->g->unit]);
    write_string(w->o, units[w->g->unit]);
    write_string(w->o, "(anonymous)");
    return 0;
}
