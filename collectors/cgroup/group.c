#include "collectors/cgroup/group.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "collectors/cgroup/parse.h"
#include "collectors/cgroup/path.h"

bool group_read(const struct group *g, unsigned level, const char *name, char *text) {
    char path[3 * PATH_LEVELS + 64] = "";
    size_t len = 0;
    ssize_t n;

    if (g->fd < 0 || level > PATH_LEVELS)
        return false;
    for (unsigned i = 0; i < level; i++, len += 3)
        memcpy(path + len, "../", 4);
    (void)snprintf(path + len, sizeof(path) - len, "%s", name);
    n = fs_read_at(g->fd, path, text, LIMIT_PROC_FILE_BYTES);
    return n >= 0 && n < LIMIT_PROC_FILE_BYTES - 1;
}

double group_number(const struct group *g, unsigned level, const char *name) {
    char text[LIMIT_PROC_FILE_BYTES];

    return group_read(g, level, name, text) ? parse_number(text) : NAN;
}

double group_smallest_limit(const struct group *g, const char *name) {
    char text[LIMIT_PROC_FILE_BYTES];
    double smallest = NAN;

    for (unsigned level = 0; level <= g->up; level++)
        if (group_read(g, level, name, text))
            smallest = fmin(smallest, parse_limit(text)); /* fmin: a NaN loses */
    return smallest;
}

double group_rest(double a, double b) {
    return a - b < 0 ? 0 : a - b;
}

double group_or_zero(double v) {
    return isnan(v) ? 0 : v;
}

/* Of the folders above only those that have a limit of their own are looked at. */
void group_memory_limits(const struct group *g, const struct group_memory *m, double unreclaimable,
                         double *ret_limit, double *ret_distance) {
    char text[LIMIT_PROC_FILE_BYTES];

    *ret_limit = NAN;
    *ret_distance = NAN;
    for (unsigned level = 0; level <= g->up; level++) {
        double limit = group_read(g, level, m->limit, text) ? parse_limit(text) : NAN;

        if (isnan(limit))
            continue;
        if (level > 0)
            unreclaimable = group_read(g, level, "memory.stat", text)
                                ? m->unreclaimable(group_number(g, level, m->usage), text)
                                : NAN;
        *ret_limit = fmin(*ret_limit, limit); /* fmin: a NaN loses */
        *ret_distance = fmin(*ret_distance, group_rest(limit, unreclaimable));
    }
}

void group_pids(const struct group *g, struct cgroup_reading *r) {
    r->values[CGROUP_PIDS] = group_number(g, 0, "pids.current");
    r->values[CGROUP_PIDS_LIMIT] = group_smallest_limit(g, "pids.max");
}
