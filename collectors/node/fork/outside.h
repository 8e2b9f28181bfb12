/* outside.h - what snapshot.c knows of the kernel, of the dynamic linker and of Node-API: it includes no header of theirs, because what
 * it is built on need not be what it runs on. Layouts and numbers: linux/uapi (asm/unistd.h, asm/signal.h), elf.h, js_native_api.h. */
#ifndef PILLION_FORK_OUTSIDE_H
#define PILLION_FORK_OUTSIDE_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;
typedef unsigned long size_t;

/* --- the kernel ------------------------------------------------------------------------------- */

#define AT_FDCWD         (-100)
#define O_RDWR           02
#define O_CLOEXEC        02000000
#define EINTR            4
#define EBUSY            16
#define ENOMEM           12
#define ETIMEDOUT        110
#define MADV_DONTFORK    10
#define MADV_DOFORK      11
#define PR_SET_PDEATHSIG 1
#define PR_SET_DUMPABLE  4
#define PR_SET_NAME      15
#define RLIMIT_DATA      2
#define RLIMIT_CORE      4
#define SIGHUP           1
#define SIGINT           2
#define SIGILL           4
#define SIGTRAP          5
#define SIGABRT          6
#define SIGBUS           7
#define SIGKILL          9
#define SIGSEGV          11
#define SIGPIPE          13
#define SIGSTOP          19
#define SIG_DFL          0ul
#define SIG_IGN          1ul
#define SIG_SETMASK      2
#define SA_RESTORER      0x04000000ul
#define SIGNALS          64
#define FUTEX_COMMANDS   0x7f

#if defined(__x86_64__)
/* clang-format off */
enum {
    SYS_write = 1, SYS_mmap = 9, SYS_mprotect = 10, SYS_munmap = 11, SYS_rt_sigaction = 13,
    SYS_rt_sigprocmask = 14, SYS_madvise = 28, SYS_setitimer = 38, SYS_getpid = 39,
    SYS_wait4 = 61, SYS_kill = 62, SYS_getppid = 110, SYS_setpriority = 141, SYS_prctl = 157,
    SYS_gettid = 186, SYS_futex = 202, SYS_getdents64 = 217, SYS_clock_gettime = 228,
    SYS_exit_group = 231, SYS_ioprio_set = 251, SYS_openat = 257, SYS_dup3 = 292,
    SYS_prlimit64 = 302, SYS_ppoll = 271, SYS_read = 0, SYS_close = 3
};
/* clang-format on */
#define R_GLOB_DAT  6
#define R_JUMP_SLOT 7

static long sys(long n, long a, long b, long c, long d, long e, long f) {
    long ret;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;

    __asm__ volatile("syscall"
                     : "=a"(ret)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return ret;
}
#elif defined(__aarch64__)
/* clang-format off */
enum {
    SYS_dup3 = 24, SYS_ioprio_set = 30, SYS_ppoll = 73, SYS_openat = 56, SYS_close = 57,
    SYS_getdents64 = 61, SYS_read = 63, SYS_write = 64, SYS_exit_group = 94, SYS_futex = 98,
    SYS_setitimer = 103, SYS_clock_gettime = 113, SYS_kill = 129, SYS_rt_sigaction = 134,
    SYS_rt_sigprocmask = 135, SYS_setpriority = 140, SYS_prctl = 167, SYS_getpid = 172,
    SYS_getppid = 173, SYS_gettid = 178, SYS_munmap = 215, SYS_mmap = 222, SYS_mprotect = 226,
    SYS_madvise = 233, SYS_wait4 = 260, SYS_prlimit64 = 261
};
/* clang-format on */
#define R_GLOB_DAT  1025
#define R_JUMP_SLOT 1026

static long sys(long n, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory", "cc");
    return x0;
}
#else
/* cppcheck-suppress preprocessorErrorDirective */
#error "heap snapshots from a child know x86-64 and aarch64 only"
#endif

#define CALL(n, a, b, c) sys(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)

struct action {
    u64 handler, flags;
    void (*restorer)(void);
    u64 mask;
};

struct dirent64 {
    u64 inode, offset;
    unsigned short length;
    u8 type;
    char name[];
};

/* --- Node-API and the dynamic linker ------------------------------------ */

typedef void *napi_env; /* each an opaque pointer */
typedef void *napi_value;
typedef void *napi_callback_info;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);

extern int napi_create_function(napi_env, const char *, size_t, napi_callback, void *,
                                napi_value *);
extern int napi_set_named_property(napi_env, napi_value, const char *, napi_value);
extern int napi_get_cb_info(napi_env, napi_callback_info, size_t *, napi_value *, napi_value *,
                            void **);
extern int napi_get_value_double(napi_env, napi_value, double *);
extern int napi_create_double(napi_env, double, napi_value *);

struct phdr {
    u32 type, flags;
    u64 offset, vaddr, paddr, filesz, memsz, align;
};
struct dyn {
    long tag;
    u64 value;
};
struct sym {
    u32 name;
    u8 info, other;
    unsigned short section;
    u64 value, size;
};
struct rela {
    u64 offset, info;
    long addend;
};
struct phdr_info {
    u64 base;
    const char *name;
    const struct phdr *phdrs;
    unsigned short n_phdrs;
};
/* clang-format off */
enum {
    PT_DYNAMIC = 2, DT_PLTRELSZ = 2, DT_STRTAB = 5, DT_SYMTAB = 6, DT_RELA = 7, DT_RELASZ = 8,
    DT_JMPREL = 23
};
/* clang-format on */

extern int dl_iterate_phdr(int (*)(struct phdr_info *, size_t, void *), void *);
extern int fork(void);
extern int *__errno_location(void);
extern int pthread_mutex_trylock(void *) __attribute__((weak));
extern int pthread_rwlock_tryrdlock(void *) __attribute__((weak));
extern int pthread_rwlock_trywrlock(void *) __attribute__((weak));

#endif
