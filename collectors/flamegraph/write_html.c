/* write_html.c - the page: a template with places in it, and the profile as base64 of the binary form below, which the page's script
 * (page/data.js) reads. Names are nowhere in the page's own text but in the table, where they are escaped.
 *
 * All numbers are LEB128 varints.
 *   1, unit (0 µs, 1 bytes, 2 samples), flags (1 compared, 2 idle is shown, 4 heap)
 *   strings: how many; each: bytes, UTF-8
 *   frames from number 1 on: how many; each: name, url, line, column (from 1; 0 none), origin, package (strings)
 *   own weight of the root, if compared its earlier one
 *   nodes depth first, without the root, siblings by falling weight: how many; each: frame, up * 2 + (weighs anything itself),
 *     [own weight, if compared: earlier own weight]; up: 0 child of the one before, 1 its sibling, 2 its caller's sibling …
 *   timeline: step (0 exact), how many runs; each: zigzag difference of the node's number to that of the run before, weight
 * A node's number is its place in the list, from 1; 0 is the root. */
#include <errno.h>

#include "agent/base/mem.h"
#include "collectors/flamegraph/page.h"
#include "collectors/flamegraph/write.h"

#define PLACE_BYTES (LIMIT_PROFILE_NAME_BYTES + 32)

static void put_names(const struct writing *w) {
    const struct names *names = w->g->names;

    out_varint(w->o, names_strings(names));
    for (uint32_t i = 0; i < names_strings(names); i++) {
        const char *s = names_text(names, i);
        size_t n = strlen(s);

        out_varint(w->o, n);
        out_add(w->o, s, n);
    }
    out_varint(w->o, names_frames(names) - 1);
    for (uint32_t i = 1; i < names_frames(names); i++) {
        const struct frame *f = names_at(names, i);

        out_varint(w->o, f->name);
        out_varint(w->o, f->url);
        out_varint(w->o, (uint64_t)f->line);
        out_varint(w->o, (uint64_t)f->column);
        out_varint(w->o, f->origin);
        out_varint(w->o, f->package);
    }
}

static void put_weight(const struct writing *w, uint32_t node) {
    out_varint(w->o, w->g->self[node]);
    if (w->g->compare)
        out_varint(w->o, w->g->base_self[node]);
}

/* order[node]: its number; nodes that are not written have 0. */
static void put_nodes(const struct writing *w, uint32_t *order) {
    const struct graph *g = w->g;
    uint32_t depth = 0, before = 0, node = 0, n = 0;

    while ((node = graph_next(g, node, &depth)) != 0)
        order[node] = ++n;
    put_weight(w, 0);
    out_varint(w->o, n);
    node = depth = 0;
    while ((node = graph_next(g, node, &depth)) != 0) {
        bool weighs = g->self[node] > 0 || (g->compare && g->base_self[node] > 0);

        out_varint(w->o, g->frame[node]);
        out_varint(w->o, (uint64_t)(before + 1 - depth) * 2 + weighs);
        if (weighs)
            put_weight(w, node);
        before = depth;
    }
}

static void put_timeline(const struct writing *w, const uint32_t *order) {
    const struct timeline *t = &w->g->timeline;
    uint32_t before = 0;

    out_varint(w->o, t->step_us);
    out_varint(w->o, t->n);
    for (uint32_t i = 0; i < t->n; i++) {
        uint32_t now = order[t->runs[i].id];

        out_varint(w->o,
                   now >= before ? (uint64_t)(now - before) * 2 : (uint64_t)(before - now) * 2 - 1);
        out_varint(w->o, t->runs[i].weight);
        before = now;
    }
}

static int put_data(const struct writing *w) {
    uint32_t *order = mem_calloc(w->g->n, sizeof(*order));

    if (order == NULL)
        return -ENOMEM;
    out_base64_begin(w->o);
    out_varint(w->o, 1);
    out_varint(w->o, w->g->unit);
    out_varint(w->o,
               (w->g->compare ? 1u : 0) | (w->g->show_idle ? 2u : 0) | (w->g->facts.heap ? 4u : 0));
    put_names(w);
    put_nodes(w, order);
    put_timeline(w, order);
    out_base64_end(w->o);
    mem_free(order);
    return 0;
}

static int put_title(const struct writing *w) {
    out_escaped(w->o, w->title);
    return 0;
}

static int put_facts(const struct writing *w) {
    char text[FACTS_BYTES];

    facts_text(w->g, w->t, text);
    out_escaped(w->o, text);
    return 0;
}

static int put_notes(const struct writing *w) {
    char text[FACTS_BYTES];

    facts_notes(w->g, text);
    out_escaped(w->o, text);
    return 0;
}

static void cell(const struct writing *w, uint64_t weight) {
    char text[WEIGHT_BYTES];

    weight_text(w->g->unit, weight, text);
    out_printf(w->o, "<td>%s</td><td>%.1f %%</td>", text, weight_share(weight, w->g->total[0]));
}

static int put_rows(const struct writing *w) {
    char place[PLACE_BYTES];

    for (uint32_t i = 0; i < w->t->n_by_self; i++) {
        uint32_t frame = w->t->by_self[i];

        out_puts(w->o, "<tr><th scope=\"row\">");
        out_escaped(w->o, names_function(w->g->names, frame));
        out_puts(w->o, "</th>");
        cell(w, w->t->self[frame]);
        cell(w, w->t->total[frame]);
        out_puts(w->o, "<td>");
        names_place(w->g->names, frame, place, sizeof(place));
        out_escaped(w->o, place);
        out_puts(w->o, "</td></tr>\n");
    }
    return 0;
}

static int put_style(const struct writing *w) {
    out_add(w->o, flamegraph_page_css, flamegraph_page_css_len);
    return 0;
}

static int put_script(const struct writing *w) {
    out_add(w->o, flamegraph_page_js, flamegraph_page_js_len);
    return 0;
}

static const struct place {
    const char *mark;
    int (*put)(const struct writing *w);
} places[] = {
    {"<!--title-->", put_title}, {"<!--facts-->", put_facts}, {"<!--notes-->", put_notes},
    {"<!--rows-->", put_rows},   {"<!--data-->", put_data},   {"/*style*/", put_style},
    {"/*script*/", put_script},
};

int write_html(const struct writing *w) {
    const char *p = flamegraph_page_html;
    int rc = 0;

    while (rc == 0 && *p != '\0') {
        const char *next = NULL;
        const struct place *found = NULL;

        for (size_t i = 0; i < ARRAY_LEN(places); i++) {
            const char *at = strstr(p, places[i].mark);

            if (at != NULL && (next == NULL || at < next)) {
                next = at;
                found = &places[i];
            }
        }
        if (found == NULL) {
            out_puts(w->o, p);
            break;
        }
        out_add(w->o, p, (size_t)(next - p));
        rc = found->put(w);
        p = next + strlen(found->mark);
    }
    return rc;
}
