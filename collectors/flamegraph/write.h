/* write.h - the writers: one file each. They see a finished graph; errors stick in the output (out.h). */
#ifndef PILLION_FLAMEGRAPH_WRITE_H
#define PILLION_FLAMEGRAPH_WRITE_H

#include "agent/base/limits.h"
#include "collectors/flamegraph/graph.h"
#include "collectors/flamegraph/out.h"
#include "collectors/flamegraph/totals.h"

struct writing {
    const struct graph *g;
    const struct totals *t;
    const char *title;
    struct out *o;
};

/* Each returns 0 or -ENOMEM. */
int write_html(const struct writing *w);
int write_svg(const struct writing *w);
int write_folded(const struct writing *w);
int write_speedscope(const struct writing *w);
int write_pprof(const struct writing *w);
int write_text(const struct writing *w);

/* For people: "12.3 ms", "4.5 MiB", "17 samples"; always terminated. */
#define WEIGHT_BYTES 32
void weight_text(enum graph_unit unit, uint64_t weight, char out[WEIGHT_BYTES]);
double weight_share(uint64_t weight, uint64_t all);

/* One line on what was measured, and the odd things of this profile, each a sentence; "" when there are none. */
#define FACTS_BYTES 512
void facts_text(const struct graph *g, const struct totals *t, char out[FACTS_BYTES]);
void facts_notes(const struct graph *g, char out[FACTS_BYTES]);

/* From the root on to `node`, without node 0; *ret_n of them. */
void path_of(const struct graph *g, uint32_t node, uint32_t path[LIMIT_PROFILE_DEPTH + 1],
             uint32_t *ret_n);

#endif
