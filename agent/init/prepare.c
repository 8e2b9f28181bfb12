#include "agent/init/prepare.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sys/stat.h>

#include "agent/base/buf.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/embedded.h"
#include "agent/init/children.h"
#include "agent/init/node_options.h"

#define PACKAGE_JSON "{\"type\":\"commonjs\"}\n"
/* execve(2) refuses longer strings (MAX_ARG_STRLEN): the application must start with what it had. */
#define ENV_STRING_BYTES (128 * 1024 - 1)

mode_t prepare_dir_mode(void) {
    return geteuid() == 0 ? 0711 : 0700;
}

/* A hard link has another name somewhere, by which somebody may write into it: a new file is made instead. */
static bool is_in_place(int dirfd, const char *name, const char *data, size_t len) {
    int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    char chunk[4096];
    size_t at = 0;
    struct stat st;
    ssize_t n = 0;
    bool same;

    if (fd < 0)
        return false;
    same = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0644 &&
           st.st_uid == geteuid() && st.st_nlink == 1 && (uint64_t)st.st_size == len;
    while (same && at < len && (n = read(fd, chunk, sizeof(chunk))) > 0) {
        same = (size_t)n <= len - at && memcmp(chunk, data + at, (size_t)n) == 0;
        at += (size_t)n;
    }
    close(fd);
    return same && at == len;
}

static int put_file(int dirfd, const char *name, const char *data, size_t len, int *written) {
    int rc;

    if (is_in_place(dirfd, name, data, len))
        return 0;
    rc = fs_write_at(dirfd, name, data, len, 0644);
    if (rc == 0)
        ++*written;
    return rc;
}

int prepare_files(int dirfd, const char *dir, int *ret_written, char *why, size_t why_size) {
    const struct {
        const char *name, *data;
        size_t len;
    } files[] = {
        {"package.json", PACKAGE_JSON, strlen(PACKAGE_JSON)},
        {"master.js", embedded_master_js, embedded_master_js_len},
        {"snapshot.node", embedded_fork_node, embedded_fork_node_len},
        {"preload.js", embedded_preload_js, embedded_preload_js_len},
    };
    char path[PATH_MAX];
    int fd, written = 0;

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        int rc = put_file(dirfd, files[i].name, files[i].data, files[i].len, &written);

        if (rc == 0 &&
            snprintf(path, sizeof(path), "%s/%s", dir, files[i].name) >= (int)sizeof(path))
            rc = -ENAMETOOLONG;
        if (rc == 0) {
            fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
            if (fd < 0)
                rc = -errno;
            else
                close(fd);
        }
        if (rc != 0) {
            (void)snprintf(why, why_size, "cannot write %s/%s: %s", dir, files[i].name,
                           strerror(-rc));
            return rc;
        }
    }
    if (ret_written != NULL)
        *ret_written = written;
    return 0;
}

const char *prepare_getenv(char *const *env, const char *name) {
    size_t len = strlen(name);

    for (; *env != NULL; env++)
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=')
            return *env + len + 1;
    return NULL;
}

/* NODE_OPTIONS=… or NULL where it stays as it is. */
static int make_node_options(char **ret, char *const *env, const char *dir) {
    const char *old = prepare_getenv(env, "NODE_OPTIONS");
    struct buf path, value, line;
    int rc;

    buf_init(&path, PATH_MAX);
    buf_init(&value, ENV_STRING_BYTES - strlen("NODE_OPTIONS="));
    buf_init(&line, ENV_STRING_BYTES);
    buf_printf(&path, "%s/preload.js", dir);
    rc = path.err;
    if (rc == 0)
        rc = node_options_add(&value, old, path.data);
    if (rc == 0) {
        buf_printf(&line, "NODE_OPTIONS=%s", value.data);
        rc = line.err;
    }
    if (rc == 0)
        *ret = buf_take(&line, NULL);
    else if (rc == -EINVAL)
        log_warn(
            "NODE_OPTIONS is not well-formed: left as it is, Node.js processes are not sampled");
    else if (rc == -ENOBUFS)
        log_warn("NODE_OPTIONS is too long: left as it is, Node.js processes are not sampled");
    buf_clear(&path);
    buf_clear(&value);
    buf_clear(&line);
    return rc == -ENOMEM ? rc : 0;
}

/* Pid and start time of this process and the directory. */
static int make_mark(char **ret, const char *dir) {
    struct process_stat self = {0};
    struct buf b;

    buf_init(&b, PATH_MAX + 64);
    (void)process_read_stat(getpid(), &self); /* without /proc there is no helper either */
    buf_printf(&b, PREPARE_ENV_MARK "=%ld:%" PRIu64 ":%s", (long)getpid(), self.start_ticks, dir);
    if (b.err == 0)
        *ret = buf_take(&b, NULL);
    buf_clear(&b);
    return *ret != NULL ? 0 : -ENOMEM;
}

/* Is this entry left out, or replaced by one of ours? */
static bool is_dropped(const struct prepared_env *p, const char *entry) {
    return text_starts(entry, "PILLION_INIT_FD=") ||
           (p->mark != NULL && text_starts(entry, PREPARE_ENV_MARK "=")) ||
           (p->node_options != NULL && text_starts(entry, "NODE_OPTIONS="));
}

int prepare_env(struct prepared_env *ret, char *const *env, const char *dir, bool mark) {
    struct prepared_env p = {0};
    size_t n = 0, out = 0;
    int rc = 0;

    while (env[n] != NULL)
        n++;
    p.env = mem_calloc(n + 3, sizeof(*p.env));
    if (p.env == NULL)
        return -ENOMEM;
    if (dir != NULL)
        rc = make_node_options(&p.node_options, env, dir);
    if (rc == 0 && dir != NULL && mark)
        rc = make_mark(&p.mark, dir);
    if (rc != 0) {
        prepare_env_clear(&p);
        return rc;
    }
    for (size_t i = 0; i < n; i++)
        if (!is_dropped(&p, env[i]))
            p.env[out++] = env[i];
    if (p.node_options != NULL)
        p.env[out++] = p.node_options;
    if (p.mark != NULL)
        p.env[out++] = p.mark;
    *ret = p;
    return 0;
}

void prepare_env_clear(struct prepared_env *p) {
    mem_free(p->env);
    mem_free(p->node_options);
    mem_free(p->mark);
    *p = (struct prepared_env){0};
}

bool prepare_is_nested(char *const *env, const char *dir) {
    const char *mark = prepare_getenv(env, PREPARE_ENV_MARK);
    struct process_stat st;
    uint64_t start;
    long pid;
    int at = 0;

    if (mark == NULL || sscanf(mark, "%ld:%" SCNu64 ":%n", &pid, &start, &at) != 2 || at == 0 ||
        strcmp(mark + at, dir) != 0 || pid == getpid())
        return false;
    return process_read_stat((pid_t)pid, &st) == 0 && st.start_ticks == start && st.state != 'Z';
}
