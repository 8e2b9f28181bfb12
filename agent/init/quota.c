#include "agent/init/quota.h"

#include <sched.h>

#include "agent/base/mem.h"
#include "agent/init/own_cgroup.h"

/* More processors than cpu_set_t holds make sched_getaffinity() fail; then sysconf() is near enough. */
static unsigned allowed_cpus(void) {
    cpu_set_t set;
    long n;

    if (sched_getaffinity(0, sizeof(set), &set) == 0)
        return (unsigned)CPU_COUNT(&set);
    n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (unsigned)n : 1;
}

/* Processors by the quota of this one cgroup, or `none`. v2: "200000 100000" or "max 100000"; v1: two files, -1 for none. */
static double quota_of(const struct own_cgroup *c, double none) {
    double quota, period;
    char text[64];

    if (own_cgroup_read(c, c->v2 ? "cpu.max" : "cpu.cfs_quota_us", text, sizeof(text)) != 0)
        return none;
    if (c->v2)
        return sscanf(text, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0
                   ? quota / period
                   : none;
    if (sscanf(text, "%lf", &quota) != 1 || quota <= 0 ||
        own_cgroup_read(c, "cpu.cfs_period_us", text, sizeof(text)) != 0 ||
        sscanf(text, "%lf", &period) != 1 || period <= 0)
        return none;
    return quota / period;
}

unsigned quota_cpus(const char *root, unsigned affinity) {
    double least = affinity > 0 ? affinity : allowed_cpus();
    struct own_cgroup c;

    if (own_cgroup_find(&c, root, "cpu", "cpu.cfs_quota_us", "cpu.max") == 0) {
        do {
            double q = quota_of(&c, least);

            if (q < least)
                least = q;
        } while (own_cgroup_up(&c));
    }
    return least < 1 ? 1 : (unsigned)least;
}
