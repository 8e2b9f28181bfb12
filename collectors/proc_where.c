/* proc_where.c - the part of proc.h that says where a process is right now: /proc/<pid>/{stat,syscall,wchan}. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "collectors/proc.h"

/* The system calls that a Node.js process, its helpers and its children are found in. Numbers are this architecture's own
 * (<asm/unistd.h>): a 32-bit process under a 64-bit kernel would be named wrongly, and there is no such Node.js any more. */
static const struct {
    int number;
    const char *name;
} calls[] = {
#define CALL(name)                                                                                 \
    { SYS_##name, #name }
    CALL(futex),
    CALL(epoll_pwait),
    CALL(ppoll),
    CALL(pselect6),
    CALL(wait4),
    CALL(waitid),
    CALL(read),
    CALL(write),
    CALL(readv),
    CALL(writev),
    CALL(pread64),
    CALL(pwrite64),
    CALL(preadv),
    CALL(pwritev),
    CALL(openat),
    CALL(close),
    CALL(newfstatat),
    CALL(fstat),
    CALL(statx),
    CALL(getdents64),
    CALL(fsync),
    CALL(fdatasync),
    CALL(ftruncate),
    CALL(fallocate),
    CALL(renameat),
    CALL(unlinkat),
    CALL(mkdirat),
    CALL(connect),
    CALL(accept),
    CALL(accept4),
    CALL(sendto),
    CALL(recvfrom),
    CALL(sendmsg),
    CALL(recvmsg),
    CALL(sendfile),
    CALL(splice),
    CALL(flock),
    CALL(fcntl),
    CALL(ioctl),
    CALL(mmap),
    CALL(munmap),
    CALL(mprotect),
    CALL(madvise),
    CALL(brk),
    CALL(nanosleep),
    CALL(clock_nanosleep),
    CALL(rt_sigsuspend),
    CALL(rt_sigtimedwait),
    CALL(restart_syscall),
    CALL(clone),
    CALL(execve),
    CALL(exit),
    CALL(exit_group),
    CALL(sched_yield),
    CALL(getrandom),
    CALL(io_uring_enter),
    CALL(membarrier),
#ifdef SYS_epoll_wait /* not on aarch64 */
    CALL(epoll_wait),
    CALL(poll),
    CALL(select),
    CALL(open),
    CALL(stat),
    CALL(lstat),
    CALL(rename),
    CALL(unlink),
    CALL(pause),
    CALL(fork),
    CALL(vfork),
#endif
#ifdef SYS_epoll_pwait2
    CALL(epoll_pwait2),
#endif
#ifdef SYS_clone3
    CALL(clone3),
#endif
#undef CALL
};

static const char *call_name(long number) {
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        if (calls[i].number == number)
            return calls[i].name;
    return NULL;
}

/* "running", "-1 0xsp 0xpc" (stopped outside of a system call), or "number 0xarg …". Needs the permission to ptrace. */
static bool from_syscall(int dirfd, char out[PROC_WHERE_BYTES]) {
    char text[256], *end;
    const char *name;
    long number;

    if (fs_read_at(dirfd, "syscall", text, sizeof(text)) < 0)
        return false;
    if (strncmp(text, "running", 7) == 0) {
        (void)snprintf(out, PROC_WHERE_BYTES, "running");
        return true;
    }
    number = strtol(text, &end, 10);
    if (end == text || number < 0)
        return false;
    name = call_name(number);
    (void)snprintf(out, PROC_WHERE_BYTES, "in system call %s%s%ld%s", name != NULL ? name : "",
                   name != NULL ? " (" : "", number, name != NULL ? ")" : "");
    return true;
}

/* The kernel function it waits in; "0" when there is none or we may not know it. */
static void from_wchan(int dirfd, char out[PROC_WHERE_BYTES]) {
    char text[96];
    ssize_t n = fs_read_at(dirfd, "wchan", text, sizeof(text));
    size_t len = 0;

    while (n > 0 && len < (size_t)n && text[len] > ' ' && text[len] < 127)
        len++;
    if (len == 0 || (len == 1 && text[0] == '0'))
        (void)snprintf(out, PROC_WHERE_BYTES, "sleeping");
    else
        (void)snprintf(out, PROC_WHERE_BYTES, "sleeping in %.*s", (int)len, text);
}

int proc_where(int dirfd, char out[PROC_WHERE_BYTES]) {
    struct proc_identity id;
    const char *fixed = NULL;
    int rc = proc_identity(dirfd, &id);

    if (rc != 0)
        return rc;
    if (id.state == 'R')
        fixed = "running";
    else if (id.state == 'T')
        fixed = "stopped";
    else if (id.state == 't')
        fixed = "stopped by a debugger";
    else if (id.state == 'Z' || id.state == 'X')
        fixed = "zombie";
    if (fixed != NULL) {
        (void)snprintf(out, PROC_WHERE_BYTES, "%s", fixed);
        return 0;
    }
    if (!from_syscall(dirfd, out))
        from_wchan(dirfd, out);
    if (id.state == 'D')
        (void)snprintf(out + strlen(out), PROC_WHERE_BYTES - strlen(out),
                       ", and cannot be interrupted");
    return 0;
}
