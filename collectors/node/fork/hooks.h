/* hooks.h - what functions of libc are replaced by in the child (cures 3 and 4), and where they are called through. */
#ifndef PILLION_FORK_HOOKS_H
#define PILLION_FORK_HOOKS_H

#include "collectors/node/fork/small.h"

#define EXIT_WAIT   97
#define EXIT_MUTEX  98
#define EXIT_RWLOCK 99
#define MOST_SLOTS  512
#define MOST_FDS    65536 /* beyond: what is written there is counted, too */

struct slot {
    u64 *at;
    u64 to;
};

static struct slot slots[MOST_SLOTS];
static u32 n_slots;
static int counts_writes;      /* a slot of write() was found */
static volatile u64 *written;  /* in a page that parent and child share */
static u8 nulls[MOST_FDS / 8]; /* descriptors that are /dev/null in the child */

/* --- in the child: what libc's functions are replaced by (cures 3 and 4) ---------------------- */

__attribute__((noreturn)) static void end(long code) {
    for (;;)
        (void)CALL(SYS_exit_group, code, 0, 0);
}

/* Whoever is to be woken does not exist here. */
static int hook_zero(void) {
    return 0;
}

/* The only thread waits: for ever. */
static int hook_wait(void) {
    end(EXIT_WAIT);
}

static int hook_timed_wait(void) {
    return ETIMEDOUT;
}

static int hook_timed_semaphore(void) {
    *__errno_location() = ETIMEDOUT;
    return -1;
}

/* Whoever holds it does not exist here. */
static int hook_mutex(void *lock) {
    int rc = pthread_mutex_trylock(lock);

    if (rc == EBUSY)
        end(EXIT_MUTEX);
    return rc;
}

static int hook_read_lock(void *lock) {
    int rc = pthread_rwlock_tryrdlock(lock);

    if (rc == EBUSY)
        end(EXIT_RWLOCK);
    return rc;
}

static int hook_write_lock(void *lock) {
    int rc = pthread_rwlock_trywrlock(lock);

    if (rc == EBUSY)
        end(EXIT_RWLOCK);
    return rc;
}

static long with_errno(long rc) {
    if (rc < 0 && rc > -4096) {
        *__errno_location() = (int)-rc;
        return -1;
    }
    return rc;
}

/* V8 of Node 24 and later (absl) waits in futexes by syscall(): WAIT 0, LOCK_PI 6, WAIT_BITSET 9, WAIT_REQUEUE_PI 11, LOCK_PI2 13. */
static long hook_syscall(long n, long a, long b, long c, long d, long e, long f) {
    if (n == SYS_futex) {
        long command = b & FUTEX_COMMANDS;

        if (command == 0 || command == 6 || command == 9 || command == 11 || command == 13) {
            if (d == 0)
                end(EXIT_WAIT);
            return with_errno(-ETIMEDOUT);
        }
    }
    return with_errno(sys(n, a, b, c, d, e, f));
}

static int is_null(long fd) {
    return fd >= 0 && fd < MOST_FDS && (nulls[fd / 8] >> fd % 8 & 1) != 0;
}

/* Counts what goes into the snapshot, and not what Node.js says to its loop or to standard error. */
static long hook_write(int fd, const void *data, size_t len) {
    long n;

    do
        n = CALL(SYS_write, fd, data, len);
    while (n == -EINTR);
    if (n > 0 && !is_null(fd))
        *written += (u64)n;
    return with_errno(n);
}

static const struct {
    const char *name;
    void *to;
} hooks[] = {
    {"pthread_cond_signal", (void *)hook_zero},
    {"pthread_cond_broadcast", (void *)hook_zero},
    {"pthread_cond_destroy", (void *)hook_zero},
    {"sem_post", (void *)hook_zero},
    {"pthread_cond_wait", (void *)hook_wait},
    {"sem_wait", (void *)hook_wait},
    {"pthread_join", (void *)hook_wait},
    {"pthread_cond_timedwait", (void *)hook_timed_wait},
    {"pthread_cond_clockwait", (void *)hook_timed_wait},
    {"sem_timedwait", (void *)hook_timed_semaphore},
    {"sem_clockwait", (void *)hook_timed_semaphore},
    {"pthread_mutex_lock", (void *)hook_mutex},
    {"pthread_rwlock_rdlock", (void *)hook_read_lock},
    {"pthread_rwlock_wrlock", (void *)hook_write_lock},
    {"syscall", (void *)hook_syscall},
    {"write", (void *)hook_write},
};
#define N_HOOKS (sizeof(hooks) / sizeof(hooks[0]))

/* --- at load: where those functions are called through ---------------------------------------- */

/* glibc has relocated the addresses in its dynamic section, musl and the vdso have not. */
static u64 address(const struct phdr_info *info, u64 value) {
    return value < info->base ? info->base + value : value;
}

static void find_in_table(const struct phdr_info *info, u64 table, u64 size, const struct sym *syms,
                          const char *names) {
    const struct rela *r = (const struct rela *)table;

    for (u64 i = 0; i < size / sizeof(*r) && n_slots < MOST_SLOTS; i++) {
        u32 type = (u32)r[i].info;
        const char *name;

        if (type != R_JUMP_SLOT && type != R_GLOB_DAT)
            continue;
        name = names + syms[r[i].info >> 32].name;
        for (u32 k = 0; k < N_HOOKS; k++) {
            if (!same(name, hooks[k].name))
                continue;
            slots[n_slots].at = (u64 *)(info->base + r[i].offset);
            slots[n_slots++].to = (u64)hooks[k].to;
            counts_writes |= same(name, "write");
        }
    }
}

/* libc itself keeps its own: it calls itself directly, and its fork() and exit must stay whole. */
static int is_libc(const char *name) {
    return contains(name, "/libc.so") || contains(name, "/libc-") || contains(name, "/ld-") ||
           contains(name, "/libpthread") || contains(name, "linux-vdso");
}

static int find_in_object(struct phdr_info *info, size_t size, void *arg) {
    u64 strings = 0, symbols = 0, jumps = 0, jumps_size = 0, relas = 0, relas_size = 0,
        own = (u64)hooks;
    const struct dyn *d = (void *)0;

    (void)size, (void)arg;
    for (u32 i = 0; i < info->n_phdrs; i++) {
        const struct phdr *p = &info->phdrs[i];
        u64 begin = info->base + p->vaddr;

        if (p->type == PT_DYNAMIC)
            d = (const struct dyn *)begin;
        if (p->type == 1 && own >= begin && own < begin + p->memsz)
            return 0; /* this file: its trylocks are the real ones */
    }
    if (d == (void *)0 || is_libc(info->name))
        return 0;
    for (; d->tag != 0; d++) {
        switch (d->tag) {
        case DT_STRTAB:
            strings = address(info, d->value);
            break;
        case DT_SYMTAB:
            symbols = address(info, d->value);
            break;
        case DT_JMPREL:
            jumps = address(info, d->value);
            break;
        case DT_PLTRELSZ:
            jumps_size = d->value;
            break;
        case DT_RELA:
            relas = address(info, d->value);
            break;
        case DT_RELASZ:
            relas_size = d->value;
            break;
        default:
            break;
        }
    }
    if (strings == 0 || symbols == 0)
        return 0;
    if (jumps != 0)
        find_in_table(info, jumps, jumps_size, (const struct sym *)symbols, (const char *)strings);
    if (relas != 0)
        find_in_table(info, relas, relas_size, (const struct sym *)symbols, (const char *)strings);
    return 0;
}

#endif
