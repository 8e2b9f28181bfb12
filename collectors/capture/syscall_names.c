/* syscall_names.c - names of the system calls in which a thread may be found waiting; the numbers differ by architecture. */
#include <stddef.h>
#include <sys/syscall.h>

#include "collectors/capture/process.h"

/* clang-format off */
static const struct {
    long number;
    const char *name;
} NAMES[] = {
#define NAME(n) {SYS_##n, #n},
    NAME(read) NAME(write) NAME(readv) NAME(writev) NAME(pread64) NAME(pwrite64) NAME(preadv) NAME(pwritev)
    NAME(close) NAME(lseek) NAME(mmap) NAME(munmap) NAME(mprotect) NAME(madvise) NAME(msync) NAME(mlock)
    NAME(ioctl) NAME(fcntl) NAME(flock) NAME(fsync) NAME(fdatasync) NAME(sync) NAME(syncfs) NAME(truncate)
    NAME(ftruncate) NAME(fallocate) NAME(getdents64) NAME(openat) NAME(unlinkat) NAME(renameat2) NAME(linkat)
    NAME(mkdirat) NAME(fchownat) NAME(statx) NAME(faccessat) NAME(readlinkat) NAME(statfs) NAME(umount2)
    NAME(mount) NAME(sendfile) NAME(splice) NAME(tee) NAME(copy_file_range) NAME(connect) NAME(accept)
    NAME(accept4) NAME(sendto) NAME(recvfrom) NAME(sendmsg) NAME(recvmsg) NAME(sendmmsg) NAME(recvmmsg)
    NAME(shutdown) NAME(futex) NAME(nanosleep) NAME(clock_nanosleep) NAME(ppoll) NAME(pselect6)
    NAME(epoll_pwait) NAME(wait4) NAME(waitid) NAME(rt_sigtimedwait) NAME(rt_sigsuspend) NAME(ptrace)
    NAME(clone) NAME(execve) NAME(exit) NAME(exit_group) NAME(getrandom) NAME(io_getevents) NAME(sched_yield)
    NAME(restart_syscall) NAME(semop) NAME(semtimedop) NAME(msgrcv) NAME(msgsnd) NAME(process_vm_readv)
#ifdef SYS_newfstatat
    NAME(newfstatat)
#endif
#ifdef SYS_poll
    NAME(poll) NAME(select) NAME(epoll_wait) NAME(pause) NAME(open) NAME(stat) NAME(lstat) NAME(access)
    NAME(rename) NAME(unlink) NAME(rmdir) NAME(mkdir) NAME(readlink) NAME(getdents) NAME(fork) NAME(vfork)
#endif
#ifdef SYS_clone3
    NAME(clone3)
#endif
#ifdef SYS_io_uring_enter
    NAME(io_uring_enter)
#endif
#ifdef SYS_epoll_pwait2
    NAME(epoll_pwait2)
#endif
#ifdef SYS_openat2
    NAME(openat2)
#endif
#undef NAME
};
/* clang-format on */

const char *syscall_name(long number) {
    for (size_t i = 0; i < sizeof(NAMES) / sizeof(NAMES[0]); i++)
        if (NAMES[i].number == number)
            return NAMES[i].name;
    return NULL;
}
