/* write_text.c - the summary for a terminal, a log or a chat: whose code it was, which functions, which way the weight goes. */
#include <math.h>

#include "agent/base/mem.h"
#include "collectors/flamegraph/write.h"

#define ROWS        20
#define PATH_ROWS   40
#define PATH_SHARE  2 /* the heaviest path is followed while a callee has 1/2 of its caller … */
#define PLACE_BYTES (LIMIT_PROFILE_NAME_BYTES + 32)

static void row(const struct writing *w, uint64_t weight, uint32_t frame) {
    char text[WEIGHT_BYTES], place[PLACE_BYTES];

    weight_text(w->g->unit, weight, text);
    names_place(w->g->names, frame, place, sizeof(place));
    out_printf(w->o, "%7.1f %%  %12s  ", weight_share(weight, w->g->total[0]), text);
    out_puts(w->o, names_function(w->g->names, frame));
    if (place[0] != '\0') {
        out_puts(w->o, "  ");
        out_puts(w->o, place);
    }
    out_putc(w->o, '\n');
}

static void write_origins(const struct writing *w) {
    static const char *const labels[ORIGINS] = {
        NULL, "the app", "packages", "Node.js", "native", "garbage collector", "idle"};
    char text[WEIGHT_BYTES];

    out_puts(w->o, "\nBy origin\n");
    for (int i = 1; i < ORIGINS; i++) {
        if (w->t->origin[i] == 0)
            continue;
        weight_text(w->g->unit, w->t->origin[i], text);
        out_printf(w->o, "%7.1f %%  %12s  %s\n", weight_share(w->t->origin[i], w->g->total[0]),
                   text, labels[i]);
    }
}

static void write_rows(const struct writing *w, const char *title, const uint32_t *rows, uint32_t n,
                       const uint64_t *weights) {
    out_printf(w->o, "\n%s\n", title);
    for (uint32_t i = 0; i < n && i < ROWS; i++)
        row(w, weights[rows[i]], rows[i]);
}

/* Down from the root, always into the heaviest, until the weight spreads. */
static void write_path(const struct writing *w) {
    const struct graph *g = w->g;
    uint32_t node = 0, depth = 0, rows = 0;

    out_puts(w->o, "\nHeaviest path\n");
    for (;;) {
        uint32_t callee = graph_next(g, node, &depth);

        if (callee == 0 || g->parent[callee] != node || ++rows > PATH_ROWS ||
            (node != 0 && g->total[callee] < g->total[node] / PATH_SHARE))
            break;
        row(w, g->total[callee], g->frame[callee]);
        node = callee;
    }
}

/* The share of a function in each of the two, because they need not be of the same length. */
static double change(const struct writing *w, uint32_t frame) {
    return weight_share(w->t->self[frame], w->g->total[0]) -
           weight_share(w->t->base_self[frame], w->g->base_total[0]);
}

static void write_changes(const struct writing *w) {
    uint32_t rows[ROWS], used = 0;

    for (uint32_t f = 1; f < w->t->n; f++) {
        double size = fabs(change(w, f));
        uint32_t k;

        if (size < 0.05 || (used == ROWS && size <= fabs(change(w, rows[used - 1]))))
            continue;
        k = used < ROWS ? used++ : used - 1;
        for (; k > 0 && fabs(change(w, rows[k - 1])) < size; k--)
            rows[k] = rows[k - 1];
        rows[k] = f;
    }
    out_puts(w->o, "\nLargest changes of self (points of all, before -> now)\n");
    for (uint32_t i = 0; i < used; i++) {
        char place[PLACE_BYTES];

        names_place(w->g->names, rows[i], place, sizeof(place));
        out_printf(w->o, "%+7.1f    %5.1f %% -> %5.1f %%  ", change(w, rows[i]),
                   weight_share(w->t->base_self[rows[i]], w->g->base_total[0]),
                   weight_share(w->t->self[rows[i]], w->g->total[0]));
        out_puts(w->o, names_function(w->g->names, rows[i]));
        out_puts(w->o, place[0] != '\0' ? "  " : "");
        out_puts(w->o, place);
        out_putc(w->o, '\n');
    }
}

int write_text(const struct writing *w) {
    char facts[FACTS_BYTES];

    out_puts(w->o, w->title);
    facts_text(w->g, w->t, facts);
    out_printf(w->o, "\n%s\n", facts);
    facts_notes(w->g, facts);
    if (facts[0] != '\0')
        out_printf(w->o, "%s\n", facts);
    write_origins(w);
    if (w->g->compare)
        write_changes(w);
    write_rows(w, "Top functions by self", w->t->by_self, w->t->n_by_self, w->t->self);
    write_rows(w, "Top functions by total", w->t->by_total, w->t->n_by_total, w->t->total);
    write_path(w);
    return 0;
}
