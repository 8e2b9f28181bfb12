#include "agent/init/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/init/terminal.h"

#define CLOSE_AT_MOST 65536

/* Linux 5.9 has close_range(2); the C library may be older. */
static void close_from(unsigned first) {
    long most;

    if (syscall(SYS_close_range, first, ~0u, 0) == 0)
        return;
    most = sysconf(_SC_OPEN_MAX);
    if (most < 0 || most > CLOSE_AT_MOST)
        most = CLOSE_AT_MOST;
    for (long fd = first; fd < most; fd++)
        (void)close((int)fd);
}

void spawn_close_inherited(void) {
    close_from(STDERR_FILENO + 1);
}

/* In the child: what went wrong goes through the pipe that a successful exec closes. */
static void give_up(int fd, int err) {
    (void)fs_write_all(fd, &err, sizeof(err));
    _exit(127);
}

/* In the parent: 0 when exec has closed the pipe, or the errno from the child, which is then reaped. */
static int wait_for_exec(pid_t pid, int fds[2]) {
    int err = 0, status;
    ssize_t n;

    close(fds[1]);
    do
        n = read(fds[0], &err, sizeof(err));
    while (n < 0 && errno == EINTR);
    close(fds[0]);
    if (n != (ssize_t)sizeof(err))
        return 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return -err;
}

static void app_child(char *const *argv, char *const *env, const struct signals *signals,
                      bool foreground, int report) {
    (void)setpgid(0, 0);
    if (foreground)
        terminal_give(getpid());
    signals_give_back(signals);
    execvpe(argv[0], argv, env);
    give_up(report, errno);
}

int spawn_app(pid_t *ret, bool *ret_exec, char *const *argv, char *const *env,
              const struct signals *signals) {
    bool foreground = terminal_belongs_to(getpgrp());
    int fds[2], rc;
    pid_t pid;

    *ret_exec = false;
    if (pipe2(fds, O_CLOEXEC) != 0)
        return -errno;
    pid = fork();
    if (pid == 0)
        app_child(argv, env, signals, foreground, fds[1]);
    if (pid < 0) {
        rc = -errno;
        close(fds[0]);
        close(fds[1]);
        return rc;
    }
    rc = wait_for_exec(pid, fds);
    if (rc != 0) {
        *ret_exec = true;
        if (foreground)
            terminal_give(getpgrp());
        return rc;
    }
    *ret = pid;
    return 0;
}

/* The numbers 3 (feed) and 4 (report) may be taken by the other one of the two: both go out of the way first. */
static void helper_child(char *const *argv, char *const *env, int feed, int report) {
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    report = fcntl(report, F_DUPFD_CLOEXEC, 16);
    feed = fcntl(feed, F_DUPFD_CLOEXEC, 16);
    if (report < 0 || feed < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 ||
        dup2(feed, SPAWN_FEED_FD) < 0 || dup3(report, SPAWN_FEED_FD + 1, O_CLOEXEC) < 0)
        give_up(report, errno);
    close_from(SPAWN_FEED_FD + 2);
    (void)setpgid(0, 0);
    signals_clean();
    execve("/proc/self/exe", argv, env);
    give_up(SPAWN_FEED_FD + 1, errno);
}

int spawn_helper(pid_t *ret, char *const *argv, char *const *env, int feed) {
    int fds[2], rc;
    pid_t pid;

    if (pipe2(fds, O_CLOEXEC) != 0)
        return -errno;
    pid = fork();
    if (pid == 0)
        helper_child(argv, env, feed, fds[1]);
    if (pid < 0) {
        rc = -errno;
        close(fds[0]);
        close(fds[1]);
        return rc;
    }
    rc = wait_for_exec(pid, fds);
    if (rc == 0)
        *ret = pid;
    return rc;
}
