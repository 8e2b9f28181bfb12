/* path.h - where the control groups of a process are in the file system: /proc/<pid>/cgroup and mountinfo together.
 *
 * Formats: cgroups(7), proc_pid_mountinfo(5). The kernel writes paths as the reader's cgroup namespace sees them ("/" in a private
 * one, the host's path otherwise, "/../x" for what is outside), and mounts show which part of the hierarchy they are. */
#ifndef PILLION_CGROUP_PATH_H
#define PILLION_CGROUP_PATH_H

#include <stdbool.h>
#include <stddef.h>

#define PATH_LEVELS 16 /* levels above a group that are looked at */

/* The controllers that are read. In v1 any of them may share a mount ("cpu,cpuacct"); PATH_UNIFIED is the v2 hierarchy. */
enum path_controller {
    PATH_CPU,
    PATH_CPUACCT,
    PATH_CPUSET,
    PATH_MEMORY,
    PATH_PIDS,
    PATH_BLKIO,
    PATH_UNIFIED,
    PATH_CONTROLLERS
};

const char *path_controller_name(enum path_controller c); /* "" for the unified one */

/* True when the process is in a v1 hierarchy of that controller (unified: in the v2 one), whether it can be seen or not. */
bool path_has(const char *cgroup_text, enum path_controller c);

/* The group's folder as seen from `root_fd`, open for reading (the caller closes it). *ret_up: how many folders above it still
 * belong to the same mount. -ENOENT: not in such a hierarchy, or it is not mounted where we can see it. Both texts are whole files. */
int path_open(int root_fd, const char *cgroup_text, const char *mountinfo_text,
              enum path_controller c, int *ret_fd, unsigned *ret_up);

#endif
