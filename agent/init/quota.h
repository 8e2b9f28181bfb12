/* quota.h - how many processors this container may use. */
#ifndef PILLION_INIT_QUOTA_H
#define PILLION_INIT_QUOTA_H

/* The CPU quota of our cgroup and of all above it that can be seen, in whole processors (rounded down), at most what the affinity
 * mask has, at least 1. `root` as in own_cgroup.h; `affinity` 0: ask the kernel. */
unsigned quota_cpus(const char *root, unsigned affinity);

#endif
