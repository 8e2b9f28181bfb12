#include "agent/cli/check_node.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "agent/base/clock.h"
#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/embedded.h"
#include "agent/init/prepare.h"

#define VERSION_BYTES 64
#define NODE_WAIT_MS  5000
#define OLDEST_MAJOR  18
#define ENVIRON_BYTES 262144
#define PIDS_SHOWN    5

/* --- which node ------------------------------------------------------------------------------- */

/* The first `node` of PATH that can be executed. */
static bool find_node(char *const *env, char out[PATH_MAX]) {
    const char *path = prepare_getenv(env, "PATH");

    while (path != NULL && *path != '\0') {
        size_t len = strcspn(path, ":");

        if (len > 0 && snprintf(out, PATH_MAX, "%.*s/node", (int)len, path) < PATH_MAX &&
            access(out, X_OK) == 0)
            return true;
        path += len + (path[len] == ':');
    }
    return false;
}

/* What the child writes until its end, but not for longer than NODE_WAIT_MS. */
static ssize_t read_until_end(int fd, char *out, size_t size) {
    uint64_t end = clock_mono_ms() + NODE_WAIT_MS;
    size_t len = 0;

    while (len < size - 1) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint64_t now = clock_mono_ms();
        ssize_t n;

        if (now >= end || poll(&p, 1, (int)(end - now)) <= 0)
            return -ETIMEDOUT;
        n = read(fd, out + len, size - 1 - len);
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        len += (size_t)n;
    }
    out[len] = '\0';
    return (ssize_t)len;
}

static int run_node(const char *path, char out[VERSION_BYTES]) {
    char *const argv[] = {(char *)(uintptr_t)path, (char *)(uintptr_t) "--version", NULL};
    char *const no_env[] = {NULL}; /* above all no NODE_OPTIONS */
    posix_spawn_file_actions_t actions;
    int fds[2], rc, status = 0;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) != 0)
        return -errno;
    rc = posix_spawn_file_actions_init(&actions);
    if (rc == 0) {
        rc = posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
        if (rc == 0)
            rc = posix_spawn(&pid, path, &actions, NULL, argv, no_env);
        (void)posix_spawn_file_actions_destroy(&actions);
    }
    close(fds[1]);
    if (rc == 0) {
        rc = (int)read_until_end(fds[0], out, VERSION_BYTES);
        if (rc < 0)
            (void)kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
        }
        if (rc >= 0)
            rc = WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EIO;
    } else {
        rc = -rc;
    }
    close(fds[0]);
    return rc;
}

void check_node(struct report *r, char *const *env) {
    char path[PATH_MAX], version[VERSION_BYTES] = "";
    unsigned major = 0;
    int rc;

    if (!find_node(env, path)) {
        report_add(r, REPORT_WARN, "node", "Nothing to do if the application brings its own.",
                   "no node in PATH");
        return;
    }
    rc = run_node(path, version);
    version[strcspn(version, "\n")] = '\0';
    if (rc != 0 || sscanf(version, "v%u.", &major) != 1)
        report_add(r, REPORT_WARN, "node", NULL, "%s --version says nothing of use (%s)", path,
                   rc != 0 ? strerror(-rc) : version);
    else if (major < OLDEST_MAJOR)
        report_add(r, REPORT_WARN, "node", "Node.js 18 and later can be sampled from inside.",
                   "%s is %s", path, version);
    else
        report_add(r, REPORT_OK, "node", NULL, "%s is %s", path, version);
}

/* --- the preload file ------------------------------------------------------------------------- */

/* 1: as this program would write it, 0: another, or a negative errno. */
static int same_preload(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char chunk[4096];
    size_t at = 0;
    ssize_t n;
    bool same = true;

    if (fd < 0)
        return -errno;
    while (same && (n = read(fd, chunk, sizeof(chunk))) > 0) {
        same = (size_t)n <= embedded_preload_js_len - at &&
               memcmp(chunk, embedded_preload_js + at, (size_t)n) == 0;
        at += (size_t)n;
    }
    close(fd);
    return same && at == embedded_preload_js_len;
}

void check_preload(struct report *r, const struct config *config) {
    char path[PATH_MAX];
    int rc = -ENAMETOOLONG;

    if (snprintf(path, sizeof(path), "%s/preload.js", config->runtime_dir) < (int)sizeof(path))
        rc = same_preload(path);
    if (rc == 1)
        report_add(r, REPORT_OK, "preload", NULL, "%s is in place", path);
    else if (rc == 0)
        report_add(r, REPORT_WARN, "preload",
                   "The helper that runs writes its own; restart it after an upgrade.",
                   "%s is of another version than this program", path);
    else
        report_add(r, REPORT_WARN, "preload",
                   "It is written by `pillion run`, `pillion agent` and `pillion preload`.",
                   "%s cannot be read: %s", path, strerror(-rc));
}

/* --- processes -------------------------------------------------------------------------------- */

enum node_process { NOT_NODE, WITH_PRELOAD, WITHOUT_PRELOAD, NOT_KNOWN };

/* By the name of its program; a process of another user shows only its own name for itself. */
static bool is_node(int proc, const char *pid) {
    char name[64], target[PATH_MAX];
    const char *base;
    ssize_t n;

    (void)snprintf(name, sizeof(name), "%.20s/exe", pid);
    n = readlinkat(proc, name, target, sizeof(target) - 1);
    if (n < 0) {
        (void)snprintf(name, sizeof(name), "%.20s/comm", pid);
        n = fs_read_at(proc, name, target, sizeof(target));
        return n > 0 && (strcmp(target, "node\n") == 0 || strcmp(target, "node-MainThread\n") == 0);
    }
    target[n] = '\0';
    base = strrchr(target, '/');
    base = base != NULL ? base + 1 : target;
    return strcmp(base, "node") == 0 || strcmp(base, "node (deleted)") == 0 ||
           strcmp(base, "nodejs") == 0;
}

static enum node_process look_at(int proc, const char *pid, const char *preload, char *room) {
    char name[64];
    ssize_t n;

    if (!is_node(proc, pid))
        return NOT_NODE;
    (void)snprintf(name, sizeof(name), "%.20s/environ", pid);
    n = fs_read_at(proc, name, room, ENVIRON_BYTES);
    if (n < 0)
        return n == -ENOENT || n == -ESRCH ? NOT_NODE : NOT_KNOWN;
    for (const char *p = room; p < room + n; p += strlen(p) + 1)
        if (text_starts(p, "NODE_OPTIONS=") && strstr(p, preload) != NULL)
            return WITH_PRELOAD;
    (void)snprintf(name, sizeof(name), "%.20s/cmdline", pid);
    n = fs_read_at(proc, name, room, ENVIRON_BYTES); /* node --require …/preload.js */
    for (const char *p = room; n > 0 && p < room + n; p += strlen(p) + 1)
        if (strstr(p, preload) != NULL)
            return WITH_PRELOAD;
    return WITHOUT_PRELOAD;
}

static void say_processes(struct report *r, const unsigned *n, const char *without) {
    if (n[WITHOUT_PRELOAD] > 0)
        report_add(r, REPORT_WARN, "processes",
                   "They were not started by `pillion run`, or before it; see `pillion preload`.",
                   "%u of %u Node.js processes run without the preload: pid%s", n[WITHOUT_PRELOAD],
                   n[WITH_PRELOAD] + n[WITHOUT_PRELOAD] + n[NOT_KNOWN], without);
    else if (n[WITH_PRELOAD] > 0)
        report_add(r, REPORT_OK, "processes", NULL, "%u Node.js processes run with the preload",
                   n[WITH_PRELOAD]);
    else
        report_add(r, REPORT_OK, "processes", NULL, "no Node.js process can be seen from here");
    if (n[NOT_KNOWN] > 0)
        report_add(r, REPORT_WARN, "processes", "Run the check as their user, or as root.",
                   "%u Node.js processes belong to another user: their environment cannot be read",
                   n[NOT_KNOWN]);
}

void check_processes(struct report *r, const struct config *config) {
    char preload[PATH_MAX], without[128] = "", *room = mem_alloc(ENVIRON_BYTES);
    DIR *d = opendir("/proc");
    unsigned n[4] = {0};
    struct dirent *e;

    if (room == NULL || d == NULL ||
        snprintf(preload, sizeof(preload), "%s/preload.js", config->runtime_dir) >=
            (int)sizeof(preload)) {
        report_add(r, REPORT_WARN, "processes", NULL, "/proc cannot be read");
        goto out;
    }
    while ((e = readdir(d)) != NULL) {
        enum node_process what = e->d_name[0] >= '0' && e->d_name[0] <= '9'
                                     ? look_at(dirfd(d), e->d_name, preload, room)
                                     : NOT_NODE;
        size_t at = strlen(without);

        if (what == WITHOUT_PRELOAD && n[what] < PIDS_SHOWN)
            (void)snprintf(without + at, sizeof(without) - at, " %.20s", e->d_name);
        n[what]++;
    }
    if (n[WITHOUT_PRELOAD] > PIDS_SHOWN)
        (void)snprintf(without + strlen(without), sizeof(without) - strlen(without), " …");
    say_processes(r, n, without);
out:
    if (d != NULL)
        (void)closedir(d);
    mem_free(room);
}
