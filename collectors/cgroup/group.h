/* group.h - reading one control group: what v1.c and v2.c share. Private to collectors/cgroup*.
 *
 * Both fill in what they know and leave the rest NaN. */
#ifndef PILLION_CGROUP_GROUP_H
#define PILLION_CGROUP_GROUP_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/base/limits.h"
#include "collectors/cgroup.h"

struct group {
    int fd;      /* its folder; -1: not there */
    unsigned up; /* folders above it that can be seen */
};

/* Reads `name` in the group, or `level` folders above it, into text[LIMIT_PROC_FILE_BYTES]. False when it cannot be read, or is too
 * long to be looked at as a whole. */
bool group_read(const struct group *g, unsigned level, const char *name, char *text);
/* A file with a lone number; NaN. */
double group_number(const struct group *g, unsigned level, const char *name);
/* The smallest limit of the group and of the folders above it. */
double group_smallest_limit(const struct group *g, const char *name);

/* What limits memory, in the words of one version. */
struct group_memory {
    const char *limit, *usage; /* files */
    double (*unreclaimable)(double usage, const char *stat);
};
/* The smallest limit of the group and of the folders above it, and what is left until the OOM killer comes at the level that is
 * nearest to it; `unreclaimable` is the group's own. NaN where there is no limit. */
void group_memory_limits(const struct group *g, const struct group_memory *m, double unreclaimable,
                         double *ret_limit, double *ret_distance);
/* a - b, at least 0; NaN when either is. */
double group_rest(double a, double b);
double group_or_zero(
    double v); /* NaN becomes 0: for the small parts of a sum that old kernels do not tell */

void v1_cpu(const struct group *cpu, struct cgroup_reading *r);
void v1_cpuacct(const struct group *cpuacct, struct cgroup_reading *r);
void v1_memory(const struct group *g, struct cgroup_reading *r);
void v1_blkio(const struct group *g, struct cgroup_reading *r);
double v1_oom_kills(const struct group *g);

void v2_cpu(const struct group *g, struct cgroup_reading *r);
void v2_memory(const struct group *g, struct cgroup_reading *r);
void v2_io(const struct group *g, struct cgroup_reading *r);
void v2_pressure(const struct group *g, struct cgroup_reading *r);
double v2_oom_kills(const struct group *g);

void group_pids(const struct group *g, struct cgroup_reading *r); /* the same in both */

#endif
