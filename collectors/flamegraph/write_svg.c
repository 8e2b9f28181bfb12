/* write_svg.c - a still picture: boxes with titles, colours by origin, light and dark. Boxes narrower than a tenth of a pixel are
 * left out, and beyond LIMIT_PROFILE_SVG of them wider ones, too; the picture says from which share on. */
#include <errno.h>

#include "agent/base/mem.h"
#include "collectors/flamegraph/write.h"

#define WIDTH       1200
#define ROW         17
#define HEAD        52
#define LETTER      6.6
#define PLACE_BYTES (LIMIT_PROFILE_NAME_BYTES + 32)

static const char style[] =
    "<style>svg{background:#fff}text{font:11px system-ui,sans-serif;fill:#1c1c1e}.h{font-size:15px}"
    "rect{stroke:#fff;stroke-width:.4}.o1{fill:#f2b263}.o2{fill:#8fc1e8}.o3{fill:#9ed8a0}"
    ".o4{fill:#cdb4e6}.o5{fill:#f29a9a}.o6{fill:#d8d8dc}"
    "@media(prefers-color-scheme:dark){svg{background:#1b1c1f}.h,.s{fill:#eee}rect{stroke:#1b1c1f}"
    "}</style>\n";

/* How many boxes weigh at least so much, and how deep they lie. */
static uint32_t count(const struct graph *g, uint64_t least, uint32_t *ret_depth) {
    uint32_t depth = 0, node, boxes = 0;

    *ret_depth = 0;
    node = graph_next(g, 0, &depth);
    while (node != 0) {
        if (g->total[node] < least) {
            node = graph_beside(g, node, &depth);
            continue;
        }
        boxes++;
        *ret_depth = depth > *ret_depth ? depth : *ret_depth;
        node = graph_next(g, node, &depth);
    }
    return boxes;
}

static size_t letters_fit(const char *s, double width) {
    size_t room = width < 3 * LETTER ? 0 : (size_t)((width - 6) / LETTER), n = 0;

    for (; s[n] != '\0' && room > 0; room--)
        for (n++; ((unsigned char)s[n] & 0xc0) == 0x80; n++)
            ;
    return n;
}

static void box(const struct writing *w, uint32_t node, double x, double y, double width) {
    const struct graph *g = w->g;
    uint32_t frame = g->frame[node];
    const char *name = names_function(g->names, frame);
    char total[WEIGHT_BYTES], self[WEIGHT_BYTES], place[PLACE_BYTES];
    size_t n = letters_fit(name, width);

    weight_text(g->unit, g->total[node], total);
    weight_text(g->unit, g->self[node], self);
    names_place(g->names, frame, place, sizeof(place));
    out_puts(w->o, "<g><title>");
    out_escaped(w->o, name);
    out_puts(w->o, place[0] != '\0' ? " " : "");
    out_escaped(w->o, place);
    out_printf(w->o,
               "\ntotal %s, %.1f %%; self %s</title><rect class=\"o%d\" x=\"%.2f\" y=\"%.0f\" "
               "width=\"%.2f\" height=\"%d\"/>",
               total, weight_share(g->total[node], g->total[0]), self,
               names_at(g->names, frame)->origin, x, y, width, ROW - 1);
    if (n > 0 && n < PLACE_BYTES) {
        memcpy(place, name, n);
        place[n] = '\0';
        out_printf(w->o, "<text x=\"%.2f\" y=\"%.0f\">", x + 3, y + 12);
        out_escaped(w->o, place);
        out_puts(w->o, n < strlen(name) ? "…</text>" : "</text>");
    }
    out_puts(w->o, "</g>\n");
}

static void boxes(const struct writing *w, uint64_t least, uint32_t rows, uint64_t *begin) {
    const struct graph *g = w->g;
    double scale = g->total[0] > 0 ? (double)WIDTH / (double)g->total[0] : 0;
    uint32_t depth = 0, node;

    begin[1] = 0;
    node = graph_next(g, 0, &depth);
    while (node != 0) {
        uint64_t x = begin[depth];

        begin[depth] = x + g->total[node];
        if (g->total[node] < least) {
            node = graph_beside(g, node, &depth);
            continue;
        }
        begin[depth + 1] = x;
        box(w, node, (double)x * scale, HEAD + (double)(rows - depth) * ROW,
            (double)g->total[node] * scale);
        node = graph_next(g, node, &depth);
    }
}

int write_svg(const struct writing *w) {
    uint64_t all = w->g->total[0], least = all / (WIDTH * 10) + 1;
    uint64_t *begin = mem_calloc(LIMIT_PROFILE_DEPTH + 3, sizeof(*begin));
    uint32_t rows;
    char facts[FACTS_BYTES];

    if (begin == NULL)
        return -ENOMEM;
    while (count(w->g, least, &rows) > LIMIT_PROFILE_SVG)
        least *= 2;
    out_printf(w->o,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %u\" width=\"%d\" "
               "height=\"%u\" role=\"img\">\n",
               WIDTH, HEAD + (rows + 1) * ROW, WIDTH, HEAD + (rows + 1) * ROW);
    out_puts(w->o, "<title>");
    out_escaped(w->o, w->title);
    out_puts(w->o, "</title>\n");
    out_puts(w->o, style);
    out_puts(w->o, "<text class=\"h\" x=\"4\" y=\"18\">");
    out_escaped(w->o, w->title);
    out_puts(w->o, "</text>\n<text class=\"s\" x=\"4\" y=\"36\">");
    facts_text(w->g, w->t, facts);
    out_escaped(w->o, facts);
    out_printf(w->o, "; from %.3g %% on</text>\n", weight_share(least, all));
    boxes(w, least, rows, begin);
    out_puts(w->o, "</svg>\n");
    mem_free(begin);
    return 0;
}
