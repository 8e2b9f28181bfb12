/* reports.h - the diagnostic report that Node.js wrote when it died of a fatal error, in the runtime directory:
 * "report.<date>.<time>.<pid>.<thread>.<number>.json" (nodejs.org/api/report.html). It holds the environment variables of the
 * process, and with them its secrets, where Node.js is too old to leave them out: they are taken out before it goes anywhere. */
#ifndef PILLION_REPORTS_H
#define PILLION_REPORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

/* Takes the member "environmentVariables" of the outermost object out, in place; returns the new length. What is not JSON, or is
 * cut in the middle of that member, loses everything from there on. */
size_t report_strip(char *json, size_t len);

/* Is this the name of a report of this process? */
bool report_is_of(const char *name, pid_t pid);

struct report {
    const char *name; /* in work_fd; the callback owns the file */
    uint64_t bytes;
    const char *sha256;
};
/* `report`: NULL when there is none, or it could not be read. From the loop, never from inside reports_take(). */
typedef void (*report_done_cb)(void *arg, const struct report *report);

/* Looks for a report of this process in runtime_fd, moves it to work_fd without the environment; the original is removed. `store`
 * false: only removed. A worker thread does it; the descriptors must stay. -ENOMEM. */
int reports_take(uv_loop_t *loop, int runtime_fd, int work_fd, pid_t pid, bool store,
                 report_done_cb done, void *arg);

#endif
