#include "collectors/flamegraph/write.h"

#include <stdarg.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

void weight_text(enum graph_unit unit, uint64_t weight, char out[WEIGHT_BYTES]) {
    static const char *const sizes[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)weight;
    size_t i = 0;

    if (unit == GRAPH_SAMPLES) {
        (void)snprintf(out, WEIGHT_BYTES, "%llu samples", (unsigned long long)weight);
    } else if (unit == GRAPH_MICROSECONDS) {
        if (weight >= 1000000)
            (void)snprintf(out, WEIGHT_BYTES, "%.2f s", v / 1e6);
        else if (weight >= 1000)
            (void)snprintf(out, WEIGHT_BYTES, "%.1f ms", v / 1e3);
        else
            (void)snprintf(out, WEIGHT_BYTES, "%llu µs", (unsigned long long)weight);
    } else if (weight < 1024) {
        (void)snprintf(out, WEIGHT_BYTES, "%llu B", (unsigned long long)weight);
    } else {
        for (v /= 1024; v >= 1024 && i + 1 < ARRAY_LEN(sizes); v /= 1024)
            i++;
        (void)snprintf(out, WEIGHT_BYTES, "%.1f %s", v, sizes[i]);
    }
}

double weight_share(uint64_t weight, uint64_t all) {
    return all > 0 ? 100.0 * (double)weight / (double)all : 0;
}

static void append(char out[FACTS_BYTES], const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void append(char out[FACTS_BYTES], const char *fmt, ...) {
    size_t len = strlen(out);
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(out + len, FACTS_BYTES - len, fmt, args);
    va_end(args);
}

void facts_text(const struct graph *g, const struct totals *t, char out[FACTS_BYTES]) {
    const struct graph_facts *f = &g->facts;
    char weight[WEIGHT_BYTES];

    out[0] = '\0';
    weight_text(g->unit, g->total[0], weight);
    append(out, "%s: %s", f->heap ? "Heap allocations that live" : "CPU profile", weight);
    if (f->duration_us > 0) {
        weight_text(GRAPH_MICROSECONDS, f->duration_us, weight);
        append(out, " of %s", weight);
    }
    if (f->samples > 0)
        append(out, ", %llu samples", (unsigned long long)f->samples);
    append(out, ", %llu nodes", (unsigned long long)f->nodes);
    if (t->idle > 0) {
        weight_text(g->unit, t->idle, weight);
        append(out, ", idle %s%s", weight, g->show_idle ? "" : " (not shown)");
    }
    if (g->compare) {
        weight_text(g->unit, g->base_total[0], weight);
        append(out, "; compared with %s", weight);
        if (g->base_facts.samples > 0)
            append(out, ", %llu samples", (unsigned long long)g->base_facts.samples);
    }
}

void facts_notes(const struct graph *g, char out[FACTS_BYTES]) {
    const struct graph_facts *f = &g->facts;
    char weight[WEIGHT_BYTES];

    out[0] = '\0';
    if (f->without_deltas)
        append(out, "The file has no times of its samples: each %s the same. ",
               g->unit == GRAPH_SAMPLES ? "counts" : "weighs");
    if (f->uneven)
        append(out, "The file does not have as many times as samples. ");
    if (f->lost > 0) {
        weight_text(g->unit, f->lost, weight);
        append(out, "%s belong to nodes that are not in the file: (unknown). ", weight);
    }
    if (f->odd_ids > 0)
        append(out, "%llu nodes have an id that another one has. ", (unsigned long long)f->odd_ids);
    if (g->too_deep > 0)
        append(out, "Stacks are cut at %d functions. ", LIMIT_PROFILE_DEPTH);
    if (g->timeline.step_us > 0) {
        weight_text(g->unit, g->timeline.step_us, weight);
        append(out, "Time order has steps of %s: each shows what took most of it. ", weight);
    }
    if (out[0] != '\0')
        out[strlen(out) - 1] = '\0';
}

void path_of(const struct graph *g, uint32_t node, uint32_t path[LIMIT_PROFILE_DEPTH + 1],
             uint32_t *ret_n) {
    uint32_t n = 0, i = 0;

    for (uint32_t k = node; k != 0 && n <= LIMIT_PROFILE_DEPTH; k = g->parent[k])
        n++;
    for (uint32_t k = node; i < n; k = g->parent[k])
        path[n - ++i] = k;
    *ret_n = n;
}
