/* children.h - who are our children at the moment, and which of them have been told to end.
 *
 * A subreaper's or pid 1's descendants hang on its children, and come up one by one as their parents end: whoever has no child but
 * the helper has no descendant but the helper's. So nothing here walks trees. */
#ifndef PILLION_INIT_CHILDREN_H
#define PILLION_INIT_CHILDREN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Fields of /proc/<pid>/stat (proc_pid_stat(5)). -EINVAL when it is not one. */
struct process_stat {
    pid_t pid, ppid;
    char state;
    uint64_t start_ticks; /* field 22 */
};
int process_parse_stat(const char *text, struct process_stat *ret);
int process_read_stat(pid_t pid, struct process_stat *ret);

/* Sorted, without repeats. */
struct pids {
    pid_t *v; /* owned */
    size_t n, cap;
};
void pids_clear(struct pids *p);
bool pids_have(const struct pids *p, pid_t pid);
int pids_add(struct pids *p, pid_t pid); /* 0, -EEXIST, -ENOMEM */
void pids_remove(struct pids *p, pid_t pid);

/* Calls `each` for every child but `except`, zombies included, until it returns false. A child that comes or goes meanwhile may or
 * may not be seen. Negative errno when there is no /proc. */
int children_each(pid_t except, bool (*each)(void *arg, pid_t pid), void *arg);
/* Is there a child besides `except` (0: nobody is left out)? Cheap. Without /proc the answer is about all of them. */
bool children_left(pid_t except);

#endif
