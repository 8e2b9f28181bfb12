/* Each check looks, says what it found and what to do; none changes anything: a directory that
 * this user made would be in the way of the helper's user. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sysexits.h>

#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/cli/check_node.h"
#include "agent/cli/check_registry.h"
#include "agent/cli/check_remote.h"
#include "agent/cli/cli.h"
#include "agent/cli/client.h"
#include "agent/cli/report.h"
#include "agent/cli/terminal.h"
#include "agent/human.h"
#include "collectors/cgroup.h"

#define MESSAGE_BYTES   65536
#define SOCKET_BY_FD    64
#define ANSWER_MS       3000
#define LOW_SPACE_BYTES (64.0 * 1024 * 1024)
#define LOW_DESCRIPTORS 256

static const char help[] =
    "usage: pillion check [--json]\n\n"
    "Reads the configuration and tries what the helper needs: directories, sinks (remote ones\n"
    "are asked), the registry (is it there, may we register, as what), Node.js, the preload,\n"
    "the helper itself, the container's limits. Changes nothing.\n\n"
    "  --json   "
    "{\"checks\":[{\"check\":…,\"result\":\"ok|warn|fail\",\"text\":…,\"advice\":…}],\"ok\":…}\n\n"
    "Examples:\n"
    "  pillion check\n"
    "  docker exec CONTAINER pillion check --json\n\n"
    "Ends with 0 when nothing failed (warnings are fine), 1 when something did, 78 when the\n"
    "configuration is bad.\n";

/* --- directories and sinks -------------------------------------------------------------------- */

/* Not there yet: could we make it? */
static bool can_be_made(const char *dir) {
    char path[PATH_MAX];

    if (!text_copy(path, sizeof(path), dir))
        return false;
    for (char *slash; (slash = strrchr(path, '/')) != NULL;) {
        *(slash == path ? slash + 1 : slash) = '\0';
        if (access(path, F_OK) == 0)
            return access(path, W_OK | X_OK) == 0;
        if (slash == path)
            break;
    }
    return false;
}

/* True when it is there and can be used. */
static bool check_dir(struct report *r, const char *check, const char *variable, const char *dir) {
    char advice[256];
    struct stat st;

    (void)snprintf(advice, sizeof(advice),
                   "Set %s to a directory that the helper's user may write to.", variable);
    if (lstat(dir, &st) != 0) {
        bool fine = errno == ENOENT && can_be_made(dir);

        report_add(r, fine ? REPORT_OK : REPORT_FAIL, check, fine ? NULL : advice,
                   fine ? "%s is not there yet; it will be made" : "%s cannot be made", dir);
        return false;
    }
    if (!S_ISDIR(st.st_mode))
        report_add(r, REPORT_FAIL, check, advice, "%s is %s", dir,
                   S_ISLNK(st.st_mode) ? "a symbolic link" : "not a directory");
    else if ((st.st_mode & 022) != 0)
        report_add(r, REPORT_FAIL, check, "chmod go-w it, or choose another.",
                   "%s can be written to by others (mode %04o)", dir,
                   (unsigned)st.st_mode & 07777u);
    else if (st.st_uid != geteuid() && geteuid() != 0)
        report_add(r, REPORT_WARN, check, "Run the check as that user: docker exec -u …",
                   "%s belongs to uid %lu, we are uid %lu", dir, (unsigned long)st.st_uid,
                   (unsigned long)geteuid());
    else if (access(dir, W_OK | X_OK) != 0)
        report_add(r, REPORT_FAIL, check, advice, "%s: %s", dir, strerror(errno));
    else
        return true;
    return false;
}

static void check_runtime_dir(struct report *r, const struct config *config) {
    if (check_dir(r, "runtime-dir", "PILLION_RUNTIME_DIR", config->runtime_dir))
        report_add(r, REPORT_OK, "runtime-dir", NULL, "%s", config->runtime_dir);
}

static void check_data_dir(struct report *r, const char *check, const char *dir) {
    char free_text[HUMAN_BYTES];
    struct statvfs fs;
    double room;

    if (!check_dir(r, check, "PILLION_DATA_DIR", dir))
        return;
    if (statvfs(dir, &fs) != 0) {
        report_add(r, REPORT_WARN, check, NULL, "%s: %s", dir, strerror(errno));
        return;
    }
    room = (double)fs.f_bavail * (double)fs.f_frsize;
    human_bytes(room, free_text);
    if (room < LOW_SPACE_BYTES)
        report_add(r, REPORT_WARN, check, "Batches are dropped, oldest first, when it is full.",
                   "%s has only %s left", dir, free_text);
    else
        report_add(r, REPORT_OK, check, NULL, "%s, %s free", dir, free_text);
}

static void check_sink(struct report *r, const char *sink) {
    if (text_starts(sink, "file:/"))
        check_data_dir(r, "sink", sink + strlen("file:"));
    else if (strcmp(sink, "file:") == 0)
        report_add(r, REPORT_OK, "sink", NULL, "file: (in the data directory)");
    else if (strchr(sink, '+') != NULL)
        return; /* check_remote.c */
    else if (strcmp(sink, "hub:") == 0)
        report_add(r, REPORT_OK, "sink", NULL, "hub: (the registry says where)");
    else if (strcmp(sink, "none") == 0)
        report_add(r, REPORT_OK, "sink", NULL, "none: samples are only in `top` and /metrics");
    else
        report_add(r, REPORT_OK, "sink", NULL, "%s", sink);
}

static void check_sinks(struct report *r, const struct config *config) {
    const char *p = config->sink;

    while (p != NULL && *p != '\0') {
        size_t len = strcspn(p, ",");
        char *one = mem_strndup(p, len);

        if (one != NULL)
            check_sink(r, one);
        mem_free(one);
        p += len + (p[len] == ',');
    }
}

/* --- the helper ------------------------------------------------------------------------------- */

static void check_workers(struct report *r, const json_t *status) {
    const json_t *w = json_object_get(status, "workers");
    double live = client_number(w, "live"), blocked = client_number(w, "blocked");

    if (blocked > 0)
        report_add(r, REPORT_WARN, "workers", "See `pillion top`.",
                   "%.0f live, %.0f with a blocked event loop", live, blocked);
    else if (live > 0)
        report_add(r, REPORT_OK, "workers", NULL, "%.0f live", live);
    else
        report_add(r, REPORT_WARN, "workers",
                   "Start the application with `pillion run -- …`, or with the preload.",
                   "no worker is connected");
}

static void say_no_helper(struct report *r, const struct config *config, int dirfd, int rc) {
    char line[1024];

    if (rc == -EACCES || rc == -EPERM || rc == -ECONNRESET)
        report_add(r, REPORT_FAIL, "helper", "Run the check as its user, or as root.",
                   "no permission for %s/status.sock; we are uid %lu", config->runtime_dir,
                   (unsigned long)geteuid());
    else if (dirfd >= 0 && fs_read_at(dirfd, "helper.error", line, sizeof(line)) > 0)
        report_add(r, REPORT_FAIL, "helper", NULL, "did not start: %s", line);
    else if (rc == -ETIMEDOUT)
        report_add(r, REPORT_FAIL, "helper",
                   "It is stopped or stuck; `pillion run` starts it anew when it ends.",
                   "does not answer at %s/status.sock", config->runtime_dir);
    else
        report_add(r, REPORT_WARN, "helper", "pillion run -- node server.js, or pillion agent.",
                   "does not run (%s/status.sock: %s)", config->runtime_dir, strerror(-rc));
}

static void check_helper(struct report *r, const struct config *config) {
    int dirfd = open(config->runtime_dir, O_PATH | O_DIRECTORY | O_CLOEXEC), rc = -errno;
    char path[SOCKET_BY_FD];
    json_t *status = NULL;
    struct buf body;
    long code = 0;

    buf_init(&body, LIMIT_HTTP_PAGE_BYTES);
    if (dirfd >= 0) {
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/status.sock", dirfd);
        rc = http_get_unix(path, "/status", ANSWER_MS, &body, &code);
    }
    if (rc == 0 && code == 200)
        status =
            json_loadb(body.data != NULL ? body.data : "", body.len, JSON_REJECT_DUPLICATES, NULL);
    if (status == NULL) {
        say_no_helper(r, config, dirfd, rc != 0 ? rc : -EPROTO);
    } else {
        const char *version = client_string(status, "version");
        bool same = strcmp(version, PILLION_VERSION) == 0;

        report_add(r, same ? REPORT_OK : REPORT_WARN, "helper",
                   same ? NULL : "It goes on with the old program until it is started again.",
                   "version %s answers, pid %.0f, up %.0f s", version,
                   client_number(json_object_get(status, "helper"), "pid"),
                   client_number(status, "uptime"));
        check_workers(r, status);
    }
    json_decref(status);
    buf_clear(&body);
    if (dirfd >= 0)
        close(dirfd);
}

/* --- the container ---------------------------------------------------------------------------- */

static void check_container(struct report *r) {
    char limit[HUMAN_BYTES], cpus[32] = "not known";
    struct cgroup_reading now = {0};
    struct cgroup *cg = NULL;
    int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (root < 0 || cgroup_open(&cg, root, 0) != 0 || cgroup_layout(cg) == CGROUP_NONE) {
        report_add(r, REPORT_WARN, "container",
                   "Limits and OOM kills of the container stay unknown.",
                   "no control group can be seen");
    } else {
        (void)cgroup_read(cg, &now); /* what could not be read is NaN */
        human_bytes(now.values[CGROUP_MEMORY_LIMIT], limit);
        if (isfinite(now.values[CGROUP_CPU_AVAILABLE]))
            (void)snprintf(cpus, sizeof(cpus), "%.2f", now.values[CGROUP_CPU_AVAILABLE]);
        report_add(r, REPORT_OK, "container", NULL, "cgroup %s; CPUs %s, memory limit %s",
                   cgroup_layout_name(cgroup_layout(cg)), cpus,
                   isfinite(now.values[CGROUP_MEMORY_LIMIT]) ? limit : "none");
    }
    cgroup_close(cg);
    if (root >= 0)
        close(root);
}

static void check_limits(struct report *r) {
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    if (files.rlim_max != RLIM_INFINITY && files.rlim_max < LOW_DESCRIPTORS)
        report_add(r, REPORT_WARN, "limits",
                   "Each worker takes three; raise it: docker run --ulimit nofile=…",
                   "only %lu open files", (unsigned long)files.rlim_max);
    else if (files.rlim_max == RLIM_INFINITY)
        report_add(r, REPORT_OK, "limits", NULL, "any number of open files");
    else
        report_add(r, REPORT_OK, "limits", NULL, "%lu open files", (unsigned long)files.rlim_max);
}

/* --- all -------------------------------------------------------------------------------------- */

static bool check_configuration(struct report *r, struct config *config, char *const *env) {
    struct buf why;
    int rc;

    buf_init(&why, MESSAGE_BYTES);
    rc = config_load(config, env, &why);
    if (rc == 0)
        report_add(r, REPORT_OK, "configuration", NULL, "every PILLION_* variable is understood");
    else
        report_add(r, REPORT_FAIL, "configuration", "pillion --help lists all variables.", "%s",
                   why.len > 0 ? why.data : strerror(-rc));
    buf_clear(&why);
    return rc == 0;
}

int cli_check_main(int argc, char **argv, char *const *env) {
    struct terminal terminal;
    struct config config;
    struct report r;
    bool json = false, good;
    int rc = client_arguments(argc, argv, help, &json);

    if (rc >= 0)
        return rc;
    json_set_alloc_funcs(mem_alloc, mem_free);
    terminal_look(&terminal, env);
    report_init(&r, json, terminal.colour);
    good = check_configuration(&r, &config, env);
    if (config.runtime_dir != NULL) {
        check_runtime_dir(&r, &config);
        check_data_dir(&r, "data-dir", config.data_dir);
        check_sinks(&r, &config);
        check_remote_sinks(&r, &config);
        check_registry(&r, &config, env);
        check_node(&r, env);
        check_preload(&r, &config);
        check_processes(&r, &config);
        check_helper(&r, &config);
    }
    check_container(&r);
    check_limits(&r);
    report_end(&r);
    rc = client_print(&r.out);
    if (rc == EX_OK && !good)
        rc = EX_CONFIG;
    else if (rc == EX_OK && r.counts[REPORT_FAIL] > 0)
        rc = 1;
    report_clear(&r);
    config_clear(&config);
    return rc;
}
