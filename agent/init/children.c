#include "agent/init/children.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>

#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"

int process_parse_stat(const char *text, struct process_stat *ret) {
    const char *p = strrchr(text, ')'); /* the name may hold anything, ")" as well */
    struct process_stat st;
    long pid, ppid;
    unsigned long long start;

    if (p == NULL || sscanf(text, "%ld (", &pid) != 1)
        return -EINVAL;
    if (sscanf(p + 1,
               " %c %ld %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
               &st.state, &ppid, &start) != 3)
        return -EINVAL;
    st.pid = (pid_t)pid;
    st.ppid = (pid_t)ppid;
    st.start_ticks = start;
    *ret = st;
    return 0;
}

int process_read_stat(pid_t pid, struct process_stat *ret) {
    char path[32], text[1024];
    ssize_t n;

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    n = fs_read_at(AT_FDCWD, path, text, sizeof(text));
    return n < 0 ? (int)n : process_parse_stat(text, ret);
}

void pids_clear(struct pids *p) {
    mem_free(p->v);
    *p = (struct pids){0};
}

/* The place of pid, or where it would stand. */
static size_t place_of(const struct pids *p, pid_t pid) {
    size_t low = 0, high = p->n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (p->v[mid] < pid)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

bool pids_have(const struct pids *p, pid_t pid) {
    size_t i = place_of(p, pid);

    return i < p->n && p->v[i] == pid;
}

int pids_add(struct pids *p, pid_t pid) {
    size_t i = place_of(p, pid);

    if (i < p->n && p->v[i] == pid)
        return -EEXIST;
    if (p->n == p->cap) {
        size_t cap = p->cap > 0 ? 2 * p->cap : 16;
        pid_t *v = mem_realloc(p->v, cap * sizeof(*v));

        if (v == NULL)
            return -ENOMEM;
        p->v = v;
        p->cap = cap;
    }
    memmove(p->v + i + 1, p->v + i, (p->n - i) * sizeof(*p->v));
    p->v[i] = pid;
    p->n++;
    return 0;
}

void pids_remove(struct pids *p, pid_t pid) {
    size_t i = place_of(p, pid);

    if (i == p->n || p->v[i] != pid)
        return;
    p->n--;
    memmove(p->v + i, p->v + i + 1, (p->n - i) * sizeof(*p->v));
}

/* The kernel's own list (CONFIG_PROC_CHILDREN): "12 34 56 ". A number may be cut at the end of a read. */
static int each_of_list(int fd, pid_t except, bool (*each)(void *arg, pid_t pid), void *arg) {
    char text[4096];
    pid_t pid = 0;
    ssize_t n;

    while ((n = read(fd, text, sizeof(text))) > 0)
        for (ssize_t i = 0; i < n; i++) {
            if (isdigit((unsigned char)text[i])) {
                pid = pid * 10 + (text[i] - '0');
                continue;
            }
            if (pid > 0 && pid != except && !each(arg, pid))
                return 0;
            pid = 0;
        }
    return n < 0 ? -errno : 0;
}

static int each_of_proc(pid_t except, bool (*each)(void *arg, pid_t pid), void *arg) {
    DIR *dir = opendir("/proc");
    struct process_stat st;
    struct dirent *e;
    bool more = true;

    if (dir == NULL)
        return -errno;
    while (more && (e = readdir(dir)) != NULL) {
        if (!isdigit((unsigned char)e->d_name[0]))
            continue;
        if (process_read_stat((pid_t)strtol(e->d_name, NULL, 10), &st) != 0 ||
            st.ppid != getpid() || st.pid == except)
            continue;
        more = each(arg, st.pid);
    }
    closedir(dir);
    return 0;
}

int children_each(pid_t except, bool (*each)(void *arg, pid_t pid), void *arg) {
    int fd = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
    int rc;

    if (fd < 0)
        return each_of_proc(except, each, arg);
    rc = each_of_list(fd, except, each, arg);
    close(fd);
    return rc;
}

static bool stop_at_first(void *arg, pid_t pid) {
    (void)pid;
    *(bool *)arg = true;
    return false;
}

bool children_left(pid_t except) {
    bool found = false;
    siginfo_t si;

    /* Without a helper the kernel's "no child at all" is the answer, and needs no /proc. */
    if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) != 0 && errno == ECHILD)
        return false;
    if (children_each(except, stop_at_first, &found) != 0)
        return true;
    return found;
}
