/* own_cgroup.h - reads files of our own cgroup: v1, v2 and hybrid, with and without a cgroup namespace. Small on purpose: init
 * wants two figures of it (quota.h, exit_record.h); the helper's collectors know the rest. cgroup-v2.rst, cgroups(7). */
#ifndef PILLION_INIT_OWN_CGROUP_H
#define PILLION_INIT_OWN_CGROUP_H

#include <stdbool.h>
#include <stddef.h>

#define OWN_CGROUP_PATH 1024

/* A directory of ours, and how many of its parents are cgroups as well. */
struct own_cgroup {
    char dir[OWN_CGROUP_PATH];
    size_t root_len; /* the part of dir that is the mount point */
    bool v2;
};

/* Where `controller` ("cpu", "memory") of the calling process is. `root` is "" or, in tests, what stands in front of
 * /proc/self/cgroup and /sys/fs/cgroup. `file` is a file that must be there. -ENOENT: not found. */
int own_cgroup_find(struct own_cgroup *ret, const char *root, const char *controller,
                    const char *file_v1, const char *file_v2);
/* Goes to the parent; false at the mount point. */
bool own_cgroup_up(struct own_cgroup *c);
/* Reads `file` into `out`, terminated. 0 or a negative errno. */
int own_cgroup_read(const struct own_cgroup *c, const char *file, char *out, size_t size);

#endif
