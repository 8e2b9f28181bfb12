/* write_speedscope.c - https://www.speedscope.app/file-format-schema.json, one evented profile: only what changes is written.
 *
 * In time order when the timeline is exact; else, and for heaps, in the order of the picture, so that the sums are always exact. */
#include <errno.h>

#include "agent/base/mem.h"
#include "collectors/flamegraph/write.h"

struct events {
    const struct writing *w;
    uint64_t at;
    bool first;
    uint32_t node; /* where we are */
};

static void event(struct events *e, char type, uint32_t node) {
    out_puts(e->w->o, e->first ? "\n" : ",\n");
    e->first = false;
    out_printf(e->w->o, "{\"type\":\"%c\",\"frame\":%u,\"at\":", type, e->w->g->frame[node] - 1);
    out_u64(e->w->o, e->at);
    out_putc(e->w->o, '}');
}

/* Closes and opens what lies between the stack of `e->node` and that of `node`. `path` has room for a whole one. */
static void go(struct events *e, uint32_t node, uint32_t *path) {
    const struct graph *g = e->w->g;
    uint32_t n, from[LIMIT_PROFILE_DEPTH + 1], n_from, same = 0;

    path_of(g, e->node, from, &n_from);
    path_of(g, node, path, &n);
    while (same < n && same < n_from && path[same] == from[same])
        same++;
    for (uint32_t i = n_from; i > same; i--)
        event(e, 'C', from[i - 1]);
    for (uint32_t i = same; i < n; i++)
        event(e, 'O', path[i]);
    e->node = node;
}

static bool in_time(const struct graph *g) {
    return g->timeline.n > 0 && g->timeline.step_us == 0;
}

static void write_events(struct events *e, uint32_t *path) {
    const struct graph *g = e->w->g;
    uint32_t node = 0, depth = 0;

    if (in_time(g)) {
        for (uint32_t i = 0; i < g->timeline.n; i++) {
            node = (uint32_t)g->timeline.runs[i].id;
            go(e, node != 0 && graph_shown(g, node) ? node : 0, path);
            e->at += g->timeline.runs[i].weight;
        }
    } else {
        e->at = g->self[0];
        while ((node = graph_next(g, node, &depth)) != 0) {
            go(e, node, path);
            e->at += g->self[node];
        }
    }
    go(e, 0, path);
}

static void write_frames(const struct writing *w) {
    const struct names *names = w->g->names;

    out_puts(w->o, "\"shared\":{\"frames\":[");
    for (uint32_t i = 1; i < names_frames(names); i++) {
        const struct frame *f = names_at(names, i);

        out_puts(w->o, i > 1 ? ",\n{\"name\":" : "\n{\"name\":");
        out_json(w->o, names_function(names, i));
        if (f->url != 0) {
            out_puts(w->o, ",\"file\":");
            out_json(w->o, names_text(names, f->url));
        }
        if (f->line > 0)
            out_printf(w->o, ",\"line\":%d", f->line);
        if (f->column > 0)
            out_printf(w->o, ",\"col\":%d", f->column);
        out_putc(w->o, '}');
    }
    out_puts(w->o, "\n]},\n");
}

int write_speedscope(const struct writing *w) {
    static const char *const units[] = {"microseconds", "bytes", "none"};
    struct events e = {.w = w, .first = true};
    uint64_t end = w->g->total[0];
    uint32_t *path = mem_calloc(LIMIT_PROFILE_DEPTH + 1, sizeof(*path));

    if (path == NULL)
        return -ENOMEM;
    if (in_time(w->g)) {
        end = 0;
        for (uint32_t i = 0; i < w->g->timeline.n; i++)
            end += w->g->timeline.runs[i].weight;
    }
    out_puts(w->o,
             "{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\n\"exporter\":"
             "\"pillion " PILLION_VERSION "\",\n\"name\":");
    out_json(w->o, w->title);
    out_puts(w->o, ",\n\"activeProfileIndex\":0,\n");
    write_frames(w);
    out_puts(w->o, "\"profiles\":[{\"type\":\"evented\",\"name\":");
    out_json(w->o, w->title);
    out_printf(w->o, ",\"unit\":\"%s\",\"startValue\":0,\"endValue\":%llu,\"events\":[",
               units[w->g->unit], (unsigned long long)end);
    write_events(&e, path);
    out_puts(w->o, "\n]}]}\n");
    mem_free(path);
    return 0;
}
