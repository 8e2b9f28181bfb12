/* reports_take → work (in a worker thread): find → read → strip → hash → write → on_worked → done. */
#include "agent/reports.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/stores/hash.h"

#define MEMBER     "\"environmentVariables\""
#define NAME_BYTES 256

/* --- the text --------------------------------------------------------------------------------------------------------------- */

/* Behind the string that begins at `at`; `len` when it has no end. */
static size_t skip_string(const char *json, size_t len, size_t at) {
    for (at++; at < len && json[at] != '"'; at++)
        at += json[at] == '\\';
    return at < len ? at + 1 : len;
}

static size_t skip_blanks(const char *json, size_t len, size_t at) {
    while (at < len &&
           (json[at] == ' ' || json[at] == '\n' || json[at] == '\r' || json[at] == '\t'))
        at++;
    return at;
}

/* Behind the value that begins at `at`: to the next comma or bracket of its own level. */
static size_t skip_value(const char *json, size_t len, size_t at) {
    size_t depth = 0;

    while (at < len) {
        char c = json[at];

        if (c == '"') {
            at = skip_string(json, len, at);
            continue;
        }
        if (depth == 0 && (c == ',' || c == '}' || c == ']'))
            return at;
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        at++;
    }
    return len;
}

/* Where the member begins that is to go, or `len`. */
static size_t find_member(const char *json, size_t len) {
    size_t depth = 0, at = 0, end;

    while (at < len) {
        char c = json[at];

        if (c != '"') {
            depth += c == '{' || c == '[';
            depth -= (c == '}' || c == ']') && depth > 0;
            at++;
            continue;
        }
        end = skip_string(json, len, at);
        if (depth == 1 && end - at == strlen(MEMBER) && memcmp(json + at, MEMBER, end - at) == 0 &&
            skip_blanks(json, len, end) < len && json[skip_blanks(json, len, end)] == ':')
            return at;
        at = end;
    }
    return len;
}

size_t report_strip(char *json, size_t len) {
    size_t from, to;

    /* Again and again: a report that names it twice is not Node's, and still is somebody's environment. */
    while ((from = find_member(json, len)) < len) {
        to = skip_blanks(json, len, from + strlen(MEMBER)) + 1;
        to = to < len ? skip_value(json, len, skip_blanks(json, len, to)) : len;
        if (to < len && json[to] == ',') {
            to++; /* and its comma */
        } else {  /* the last one: the comma before it */
            while (from > 0 && strchr(" \n\r\t", json[from - 1]) != NULL)
                from--;
            from -= from > 0 && json[from - 1] == ',';
        }
        memmove(json + from, json + to, len - to);
        len -= to - from;
    }
    return len;
}

bool report_is_of(const char *name, pid_t pid) {
    char wanted[24];
    const char *p = name;

    (void)snprintf(wanted, sizeof(wanted), ".%d.", (int)pid);
    if (!text_starts(name, "report.") || strlen(name) < strlen(".json") ||
        strcmp(name + strlen(name) - strlen(".json"), ".json") != 0)
        return false;
    for (int dots = 0; dots < 2; dots++) { /* date and time */
        p = strchr(p + 1, '.');
        if (p == NULL)
            return false;
    }
    p = strchr(p + 1, '.');
    return p != NULL && text_starts(p, wanted);
}

/* --- the file --------------------------------------------------------------------------------------------------------------- */

struct taking {
    uv_work_t work;
    int runtime_fd, work_fd;
    pid_t pid;
    bool store, found;
    char name[NAME_BYTES];
    char sha256[HASH_HEX_BYTES];
    uint64_t bytes;
    report_done_cb done;
    void *arg;
};

static int find(struct taking *t) {
    int fd = openat(t->runtime_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;
    bool found = false;

    if (dir == NULL) {
        if (fd >= 0)
            (void)close(fd);
        return -EIO;
    }
    while (!found && (e = readdir(dir)) != NULL)
        found = report_is_of(e->d_name, t->pid) && text_copy(t->name, sizeof(t->name), e->d_name);
    (void)closedir(dir);
    return found ? 0 : -ENOENT;
}

/* Of a regular file of our own user only: the directory may be open to others in one case (rundir.h), its files are not. */
static int read_all(struct taking *t, char **ret, size_t *ret_len) {
    int fd = openat(t->runtime_fd, t->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    char *data = NULL;
    size_t len = 0;
    struct stat st;
    ssize_t n = 1;
    int rc = fd < 0 || fstat(fd, &st) != 0 ? -errno : 0;

    if (rc == 0 && (!S_ISREG(st.st_mode) || st.st_size > LIMIT_CRASH_REPORT_BYTES))
        rc = -EINVAL;
    if (rc == 0 && (data = mem_alloc((size_t)st.st_size + 1)) == NULL)
        rc = -ENOMEM;
    while (rc == 0 && len < (size_t)st.st_size && n > 0) {
        n = read(fd, data + len, (size_t)st.st_size - len);
        if (n > 0)
            len += (size_t)n;
        else if (n < 0)
            rc = -errno;
    }
    if (fd >= 0)
        (void)close(fd); /* was only read */
    if (rc != 0) {
        mem_free(data);
        return rc;
    }
    *ret = data;
    *ret_len = len;
    return 0;
}

static void work(uv_work_t *w) {
    struct taking *t = container_of(w, struct taking, work);
    char *data = NULL;
    size_t len = 0;
    int rc = find(t);

    if (rc != 0)
        return;
    rc = t->store ? read_all(t, &data, &len) : -ECANCELED;
    if (rc == 0) {
        len = report_strip(data, len);
        rc = hash_hex(data, len, t->sha256);
    }
    if (rc == 0)
        rc = fs_write_at(t->work_fd, t->name, data, len, 0600);
    mem_free(data);
    t->bytes = len;
    t->found = rc == 0;
    (void)unlinkat(t->runtime_fd, t->name, 0); /* it is not ours to keep, with what is in it */
    if (rc != 0 && rc != -ECANCELED)
        log_warn("the report %s cannot be kept: %s", t->name, strerror(-rc));
}

static void on_worked(uv_work_t *w, int status) {
    struct taking *t = container_of(w, struct taking, work);
    struct report report = {.name = t->name, .bytes = t->bytes, .sha256 = t->sha256};

    t->done(t->arg, status == 0 && t->found ? &report : NULL);
    mem_free(t);
}

int reports_take(uv_loop_t *loop, int runtime_fd, int work_fd, pid_t pid, bool store,
                 report_done_cb done, void *arg) {
    struct taking *t = mem_calloc(1, sizeof(*t));
    int rc;

    if (t == NULL)
        return -ENOMEM;
    t->runtime_fd = runtime_fd;
    t->work_fd = work_fd;
    t->pid = pid;
    t->store = store;
    t->done = done;
    t->arg = arg;
    rc = uv_queue_work(loop, &t->work, work, on_worked);
    if (rc != 0)
        mem_free(t);
    return rc;
}
