/* process.c - see process.h. Everything is read relative to /proc, so that another one can be given (tests, a mounted one). */
#include "collectors/capture/process.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define FILE_BYTES    4096
#define CHILDREN_MAX  8
#define LISTENING_MAX 1024 /* sockets of the network namespace that are looked at */
#define TCP_LISTEN    0x0a
#define LOOPBACK      0x0100007fU /* as /proc/net/tcp writes 127.0.0.1 on a little-endian machine */

struct listener {
    uint64_t inode;
    uint16_t port;
};

static ssize_t read_file(const struct process_view *p, const char *name, char out[FILE_BYTES]) {
    char path[128];

    (void)snprintf(path, sizeof(path), "%d/%s", p->pid, name);
    return fs_read_at(p->proc_fd, path, out, FILE_BYTES);
}

static ssize_t read_thread_file(const struct process_view *p, const char *name,
                                char out[FILE_BYTES]) {
    char path[64];

    (void)snprintf(path, sizeof(path), "task/%u/%s", p->tid != 0 ? p->tid : (unsigned)p->pid, name);
    return read_file(p, path, out);
}

/* Fields of stat from the third on: the second may hold anything. */
static const char *after_name(const char *stat) {
    const char *at = strrchr(stat, ')');

    return at != NULL && at[1] == ' ' ? at + 2 : NULL;
}

int process_check(const struct process_view *p) {
    char text[FILE_BYTES];
    const char *at;
    ssize_t n = read_file(p, "stat", text);

    if (n < 0)
        return n == -ENOENT ? -ESRCH : (int)n;
    at = after_name(text);
    if (at == NULL || *at == 'Z' || *at == 'X')
        return -ESRCH;
    if (p->start_ticks == 0)
        return 0;
    for (int field = 3; field < 22 && at != NULL; field++) {
        at = strchr(at, ' ');
        at = at != NULL ? at + 1 : NULL;
    }
    return at != NULL && strtoull(at, NULL, 10) == p->start_ticks ? 0 : -ESRCH;
}

int process_catches_usr1(const struct process_view *p) {
    char text[FILE_BYTES];
    const char *at;
    ssize_t n = read_file(p, "status", text);

    if (n < 0)
        return n == -ENOENT ? -ESRCH : (int)n;
    at = strstr(text, "\nSigCgt:");
    if (at == NULL)
        return -EPROTO;
    return (int)(strtoull(at + strlen("\nSigCgt:"), NULL, 16) >> (SIGUSR1 - 1) & 1);
}

int process_shares_network(const struct process_view *p) {
    struct stat its, ours;
    char path[48];

    (void)snprintf(path, sizeof(path), "%d/ns/net", p->pid);
    if (fstatat(p->proc_fd, path, &its, 0) != 0)
        return -errno;
    if (stat("/proc/self/ns/net", &ours) != 0)
        return -errno;
    return its.st_ino == ours.st_ino;
}

/* "   0: 0100007F:240D 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 8812345 …" */
static bool read_listener(const char *line, struct listener *ret) {
    unsigned address, port, state;
    unsigned long long inode;

    if (sscanf(line, " %*u: %8x:%4x %*8x:%*4x %2x %*x:%*x %*x:%*x %*x %*u %*u %llu", &address,
               &port, &state, &inode) != 4)
        return false;
    *ret = (struct listener){.inode = inode, .port = (uint16_t)port};
    return state == TCP_LISTEN && address == LOOPBACK;
}

static size_t read_listeners(const struct process_view *p, struct listener *found) {
    char path[48], line[256];
    size_t n = 0;
    FILE *f = NULL;
    int fd;

    (void)snprintf(path, sizeof(path), "%d/net/tcp", p->pid);
    fd = openat(p->proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        f = fdopen(fd, "r");
    if (f == NULL) {
        if (fd >= 0)
            (void)close(fd); /* only read from */
        return 0;
    }
    while (n < LISTENING_MAX && fgets(line, sizeof(line), f) != NULL)
        if (read_listener(line, &found[n]))
            n++;
    (void)fclose(f); /* only read from */
    return n;
}

static bool is_known(uint16_t port, const uint16_t *known, int n_known) {
    for (int i = 0; i < n_known; i++)
        if (known[i] == port)
            return true;
    return false;
}

/* The port of the listening socket that this descriptor is, 0: it is none. */
static uint16_t port_of(int fds, const char *name, const struct listener *found, size_t n) {
    char link[64];
    ssize_t len = readlinkat(fds, name, link, sizeof(link) - 1);
    uint64_t inode;

    if (len <= 0)
        return 0;
    link[len] = '\0';
    if (!text_starts(link, "socket:["))
        return 0;
    inode = strtoull(link + strlen("socket:["), NULL, 10);
    for (size_t i = 0; i < n; i++)
        if (found[i].inode == inode)
            return found[i].port;
    return 0;
}

static int match_ports(const struct process_view *p, const struct listener *found, size_t n_found,
                       const uint16_t *known, int n_known, uint16_t ports[PROCESS_PORTS_MAX]) {
    char path[48];
    int fd, n = 0;
    DIR *d;

    (void)snprintf(path, sizeof(path), "%d/fd", p->pid);
    fd = openat(p->proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    d = fdopendir(fd);
    if (d == NULL) {
        (void)close(fd); /* only read from */
        return -ENOMEM;
    }
    for (struct dirent *e; n < PROCESS_PORTS_MAX && (e = readdir(d)) != NULL;) {
        uint16_t port =
            isdigit((unsigned char)e->d_name[0]) ? port_of(fd, e->d_name, found, n_found) : 0;

        if (port != 0 && !is_known(port, known, n_known) && !is_known(port, ports, n))
            ports[n++] = port;
    }
    (void)closedir(d); /* only read from */
    return n;
}

int process_ports(const struct process_view *p, const uint16_t *known, int n_known,
                  uint16_t ports[PROCESS_PORTS_MAX]) {
    struct listener *found = mem_calloc(LISTENING_MAX, sizeof(*found));
    int rc;

    if (found == NULL)
        return -ENOMEM;
    rc = match_ports(p, found, read_listeners(p, found), known, n_known, ports);
    mem_free(found);
    return rc;
}

/* --- in native code ------------------------------------------------------------------------------------------------------ */

static void add_name(struct buf *out, const char *key, const char *value) {
    buf_printf(out, ",\"%s\":", key);
    if (value != NULL && value[0] != '\0')
        buf_json_string(out, value);
    else
        buf_puts(out, "null");
}

/* The processes that it waits for, perhaps: execSync() is an epoll_pwait() of Node's own. Returns the first one's name. */
static void add_children(const struct process_view *p, struct buf *out, char first[64]) {
    char text[FILE_BYTES];
    char *at = text, *rest = NULL;
    unsigned n = 0;

    first[0] = '\0';
    buf_puts(out, ",\"children\":[");
    if (read_thread_file(p, "children", text) < 0)
        text[0] = '\0';
    while (n < CHILDREN_MAX && (at = strtok_r(n == 0 ? text : NULL, " \n", &rest)) != NULL) {
        struct process_view child = {.proc_fd = p->proc_fd, .pid = (pid_t)strtol(at, NULL, 10)};
        char name[FILE_BYTES];

        if (read_file(&child, "comm", name) < 0)
            name[0] = '\0';
        name[strcspn(name, "\n")] = '\0';
        if (n == 0)
            (void)text_copy(first, 64, name);
        buf_printf(out, "%s{\"pid\":%d,\"name\":", n > 0 ? "," : "", child.pid);
        buf_json_string(out, name);
        buf_putc(out, '}');
        n++;
    }
    buf_putc(out, ']');
}

static const char *state_words(char state) {
    switch (state) {
    case 'R':
        return "running";
    case 'S':
        return "sleeping";
    case 'D':
        return "waiting for the disk or a file server";
    case 'T':
    case 't':
        return "stopped";
    default:
        return "in an unknown state";
    }
}

void process_native(const struct process_view *p, const char *state, struct buf *out,
                    char ret_words[PROCESS_WORDS_BYTES]) {
    char text[FILE_BYTES], wchan[FILE_BYTES], number[24], letter[2] = "", child[64];
    const char *call = NULL, *at;

    if (read_thread_file(p, "stat", text) > 0 && (at = after_name(text)) != NULL)
        letter[0] = *at;
    if (read_thread_file(p, "syscall", text) > 0 && isdigit((unsigned char)text[0])) {
        long n = strtol(text, NULL, 10);

        (void)snprintf(number, sizeof(number), "%ld", n);
        call = syscall_name(n) != NULL ? syscall_name(n) : number;
    }
    if (read_thread_file(p, "wchan", wchan) <= 0 || strcmp(wchan, "0") == 0)
        wchan[0] = '\0';
    buf_printf(out, "{\"state\":\"%s\"", state);
    add_name(out, "thread_state", letter);
    add_name(out, "syscall", call);
    add_name(out, "wchan", wchan);
    add_children(p, out, child);
    buf_putc(out, '}');
    (void)snprintf(ret_words, PROCESS_WORDS_BYTES, "in native code (%s%s, %s%s%.40s)",
                   call != NULL       ? "system call "
                   : wchan[0] != '\0' ? "kernel function "
                                      : "no system call",
                   call != NULL ? call : wchan, state_words(letter[0]),
                   child[0] != '\0' ? ", with the child process " : "", child);
}
