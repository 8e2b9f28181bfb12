/* write_folded.c - one line for each stack that was seen: "main app.js:1:1;work app.js:9:3 1234", as flamegraph.pl, inferno and others
 * read it. A ';' in a name would be the end of it: it becomes ':'. */
#include "agent/base/mem.h"
#include "collectors/flamegraph/write.h"

#define LABEL_BYTES (2 * LIMIT_PROFILE_NAME_BYTES + 64)

static void label(const struct writing *w, uint32_t frame, char *text) {
    size_t n = (size_t)snprintf(text, LABEL_BYTES, "%s", names_function(w->g->names, frame));
    size_t place = names_place(w->g->names, frame, text + n + 1, LABEL_BYTES - n - 1);

    text[n] = place > 0 ? ' ' : '\0';
    for (char *p = strchr(text, ';'); p != NULL; p = strchr(p, ';'))
        *p = ':';
}

int write_folded(const struct writing *w) {
    uint32_t depth = 0, node = 0, n, path[LIMIT_PROFILE_DEPTH + 1];
    char text[LABEL_BYTES];

    if (w->g->self[0] > 0)
        out_printf(w->o, "(root) %llu\n", (unsigned long long)w->g->self[0]);
    while ((node = graph_next(w->g, node, &depth)) != 0) {
        if (w->g->self[node] == 0)
            continue;
        path_of(w->g, node, path, &n);
        for (uint32_t i = 0; i < n; i++) {
            label(w, w->g->frame[path[i]], text);
            if (i > 0)
                out_putc(w->o, ';');
            out_puts(w->o, text);
        }
        out_putc(w->o, ' ');
        out_u64(w->o, w->g->self[node]);
        out_putc(w->o, '\n');
    }
    return 0;
}
