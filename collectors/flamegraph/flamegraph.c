/* flamegraph.c - happy path: read (the base first, when there is one), graph_finish(), totals, one writer. What was read is measured
 * in nodes, not in samples; nothing leaves before all of it was read. */
#include "collectors/flamegraph/flamegraph.h"

#include <errno.h>

#include "agent/base/mem.h"
#include "collectors/flamegraph/graph.h"
#include "collectors/flamegraph/profile.h"
#include "collectors/flamegraph/write.h"

#define WHY_BYTES 256

static const struct format {
    const char *name, *ending;
    int (*write)(const struct writing *w);
    bool compares;
} formats[FLAMEGRAPH_FORMATS] = {
    [FLAMEGRAPH_HTML] = {"html", ".html", write_html, true},
    [FLAMEGRAPH_SVG] = {"svg", ".svg", write_svg, false},
    [FLAMEGRAPH_FOLDED] = {"folded", ".folded", write_folded, false},
    [FLAMEGRAPH_SPEEDSCOPE] = {"speedscope", ".speedscope.json", write_speedscope, false},
    [FLAMEGRAPH_PPROF] = {"pprof", ".pb.gz", write_pprof, false},
    [FLAMEGRAPH_TEXT] = {"text", ".txt", write_text, true},
};

const char *flamegraph_format_name(enum flamegraph_format format) {
    return formats[format].name;
}

int flamegraph_format_read(const char *name, enum flamegraph_format *ret) {
    for (unsigned i = 0; i < FLAMEGRAPH_FORMATS; i++)
        if (strcmp(name, formats[i].name) == 0) {
            *ret = (enum flamegraph_format)i;
            return 0;
        }
    return -EINVAL;
}

int flamegraph_format_of_file(const char *file, enum flamegraph_format *ret) {
    size_t len = strlen(file);

    for (unsigned i = 0; i < FLAMEGRAPH_FORMATS; i++) {
        size_t n = strlen(formats[i].ending);

        if (len > n && strcmp(file + len - n, formats[i].ending) == 0) {
            *ret = (enum flamegraph_format)i;
            return 0;
        }
    }
    return -EINVAL;
}

static int read_one(struct graph *g, int fd, const struct flamegraph_options *options, char *why) {
    struct source *source;
    int rc = source_new(&source, fd, options->progress, options->arg);

    if (rc != 0)
        return rc;
    rc = profile_read(g, source, why);
    source_free(source);
    return rc;
}

/* "the profile …" → "the base: the profile …" */
static void blame_base(char *why) {
    char text[WHY_BYTES];

    if (why[0] == '\0')
        return;
    (void)snprintf(text, sizeof(text), "%s", why);
    (void)snprintf(why, WHY_BYTES, "base: %.*s", WHY_BYTES - 8, text);
}

static int read_all(struct graph *g, int in_fd, const struct flamegraph_options *options,
                    char *why) {
    enum graph_unit unit = GRAPH_MICROSECONDS;
    int rc;

    if (options->base_fd >= 0) {
        rc = read_one(g, options->base_fd, options, why);
        if (rc != 0) {
            blame_base(why);
            return rc;
        }
        unit = g->unit;
        rc = graph_set_base(g);
        if (rc != 0)
            return rc;
    }
    rc = read_one(g, in_fd, options, why);
    if (rc == 0 && g->compare && g->unit != unit) {
        (void)snprintf(why, WHY_BYTES,
                       "the two profiles do not measure the same (time, bytes or samples): they "
                       "cannot be compared");
        rc = -EINVAL;
    }
    return rc;
}

static int write_all(const struct graph *g, int out_fd, const struct flamegraph_options *options) {
    const char *title = options->title;
    struct writing w = {.g = g};
    struct totals totals;
    int rc = totals_make(&totals, g), closed;

    if (rc != 0)
        return rc;
    if (title == NULL)
        title = g->facts.heap ? "Heap profile" : "CPU profile";
    w.t = &totals;
    w.title = title;
    rc = out_new(&w.o, out_fd, options->format == FLAMEGRAPH_PPROF);
    if (rc == 0) {
        rc = formats[options->format].write(&w);
        closed = out_close(w.o);
        rc = rc != 0 ? rc : closed;
    }
    totals_clear(&totals);
    return rc;
}

int flamegraph_make(int in_fd, int out_fd, const struct flamegraph_options *options, char *why) {
    struct graph g;
    int rc;

    why[0] = '\0';
    if (options->base_fd >= 0 && !formats[options->format].compares) {
        (void)snprintf(why, WHY_BYTES, "%s cannot show two profiles; html and text can",
                       formats[options->format].name);
        return -EINVAL;
    }
    rc = graph_init(&g);
    if (rc != 0)
        return rc;
    g.show_idle = options->show_idle;
    rc = read_all(&g, in_fd, options, why);
    if (rc == 0)
        rc = graph_finish(&g);
    if (rc == 0)
        rc = write_all(&g, out_fd, options);
    graph_clear(&g);
    return rc;
}
