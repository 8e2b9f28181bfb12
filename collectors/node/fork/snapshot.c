/* snapshot.c - the native part of heap snapshots from a forked child: parent and child, step by step. README.md beside it says why;
 * "cure 1" to "cure 5" are its five.
 *
 * A Node.js add-on (N-API) that stands alone: no header, no library of its own, the same file for glibc and musl. Everything goes
 * through system calls of its own except fork(), which must be libc's: it takes libc's locks over into the child and runs the atfork
 * handlers of others.
 *
 * In JavaScript (collectors/node/fork/fork.js is the only user):
 *   init()                              slots found, or -1 no /proc, -2 too few slots, -3 not the main thread, -4 no memory
 *   fork(fd, budget, deadlineMs, force) pid; 0 in the child; -1000 not quiet; -2000 no /proc/self/smaps; else a negative errno.
 *                                       budget in bytes, 0: none. force: whatever the other threads do
 *   exit(code)                          child only: ends at once, nothing is flushed; in the parent it does nothing
 *   wait(pid)                           -1 it runs; 0 and more: its status as wait4() gives it; -1000 - errno: it cannot be had
 *   kill(pid)                           ends it
 *   bytes()                             written by the child so far
 *   pause()                             microseconds that the last fork() took
 *
 * Exit codes of the child: 0 written, 3 not; 94 not set up, 96 out of its budget, 97 to 99 it met a lock or a wait that
 * nobody can end. */
#include "collectors/node/fork/hooks.h"

#define EXIT_WRITE  3 /* JavaScript says so, too */
#define EXIT_SETUP  94
#define EXIT_BUDGET 96

#define NOT_QUIET -1000
#define NO_SMAPS  -2000

#define LEAST_SLOTS   3
#define MOST_TIDS     64
#define MOST_RANGES   65536 /* the kernel's own default limit of mappings is 65,530 */
#define TEXT_BYTES    262144
#define SCRATCH_BYTES (MOST_RANGES * sizeof(struct range) + TEXT_BYTES)
#define NEAR_BYTES    (64ul << 20)

/* --- state: one snapshot at a time ------------------------------------------------------------ */

struct range {
    u64 begin, end;
};

static long parent_pid; /* 0 before init() */
static int in_child;
static int tids[MOST_TIDS]; /* threads that were there at the start: V8's */
static u32 n_tids;
static u64 data_limit; /* of the child; 0: none */
static u64 budget_bytes;
static u64 pause_us;

/* --- at load: V8's threads -------------------------------------------------------------------- */

/* Calls `each` with the number of each entry of a directory of numbers. */
static long each_number(const char *path, void (*each)(long number, long dir, long arg), long arg) {
    long dir = open_file(path, 0), n;
    u64 room[512]; /* aligned as the kernel's records are */
    char *buffer = (char *)room;

    if (dir < 0)
        return dir;
    while ((n = CALL(SYS_getdents64, dir, buffer, sizeof(room))) > 0) {
        for (long at = 0; at < n;) {
            const struct dirent64 *e = (const struct dirent64 *)(buffer + at);

            if (e->name[0] != '.')
                each((long)read_number(e->name), dir, arg);
            at += e->length;
        }
    }
    (void)CALL(SYS_close, dir, 0, 0);
    return n;
}

/* "/proc/self/task/123/stat"; the text after the name in brackets: " S 1 …". NULL: the thread is gone. */
static const char *thread_state(int tid, char *text, size_t size) {
    char path[64] = "/proc/self/task/", *p = put_number(path + 16, (u64)tid);
    const char *state = (void *)0;
    long n;

    for (const char *s = "/stat"; (*p = *s) != '\0'; s++)
        p++;
    n = read_file(path, text, size);
    for (long i = 0; i < n; i++)
        if (text[i] == ')')
            state = text + i + 1;
    return state;
}

static void note_thread(long tid, long dir, long own) {
    char text[512];

    (void)dir;
    if (tid == own || n_tids == MOST_TIDS ||
        thread_state((int)tid, text, sizeof(text)) == (void *)0 || contains(text, "(iou-"))
        return;
    tids[n_tids++] = (int)tid;
}

static long initialize(void) {
    long pid = CALL(SYS_getpid, 0, 0, 0);

    if (parent_pid != 0)
        return n_slots;
    if (CALL(SYS_gettid, 0, 0, 0) != pid)
        return -3;
    n_tids = n_slots = 0;
    if (each_number("/proc/self/task", note_thread, pid) < 0 || data_bytes() == 0)
        return -1;
    if (&pthread_mutex_trylock == (void *)0 || &pthread_rwlock_tryrdlock == (void *)0 ||
        &pthread_rwlock_trywrlock == (void *)0)
        return -2;
    (void)dl_iterate_phdr(find_in_object, (void *)0);
    if (n_slots < LEAST_SLOTS || n_slots == MOST_SLOTS || !counts_writes)
        return -2;
    written = map(4096, 1);
    if (written == (void *)0)
        return -4;
    parent_pid = pid;
    return n_slots;
}

/* --- parent, before the fork ------------------------------------------------------------------ */

/* Cure 5: V8's threads sleep, so none of them holds a lock or has a job under way. */
static int quiet(void) {
    char text[512];

    for (u32 i = 0; i < n_tids; i++) {
        const char *state = thread_state(tids[i], text, sizeof(text));

        if (state != (void *)0 && state[1] != 'S')
            return 0;
    }
    return 1;
}

/* A line of smaps that begins a mapping: private, and of nothing that has a name: "7f00-7f10 rw-p 0 00:00 0". */
static int anonymous(const char *line, struct range *ret) {
    const char *p = read_hex(line, &ret->begin);

    if (*p != '-')
        return 0;
    p = read_hex(p + 1, &ret->end);
    if (p[0] != ' ' || p[4] != 'p')
        return 0;
    for (u32 fields = 0; *p != '\n' && *p != '\0';) {
        while (*p == ' ')
            p++;
        if (*p == '\n' || *p == '\0')
            break;
        if (++fields == 5) /* a name; such a one is only a label (CONFIG_ANON_VMA_NAME) */
            return p[0] == '[' && p[1] == 'a' && p[2] == 'n' && p[3] == 'o' && p[4] == 'n';
        if (fields == 4 && !(p[0] == '0' && (p[1] == ' ' || p[1] == '\n')))
            return 0; /* an inode */
        while (*p != ' ' && *p != '\n' && *p != '\0')
            p++;
    }
    return 1;
}

struct scan {
    struct range *ranges;
    u32 n;
    struct range now; /* of the mapping that is being read */
    int is_anonymous;
};

static void scan_line(struct scan *s, const char *line) {
    if ((line[0] >= '0' && line[0] <= '9') || (line[0] >= 'a' && line[0] <= 'f')) {
        s->is_anonymous = anonymous(line, &s->now);
        return;
    }
    if (!s->is_anonymous || line[0] != 'V' || line[1] != 'm' || line[2] != 'F' ||
        !contains(line, " dc"))
        return;
    if (s->n > 0 && s->ranges[s->n - 1].end == s->now.begin)
        s->ranges[s->n - 1].end = s->now.end;
    else if (s->n < MOST_RANGES)
        s->ranges[s->n++] = s->now;
}

/* Cure 1: what V8 keeps from children, exactly. Whole lines out of a buffer that is filled again and again. */
static long find_kept(struct scan *s, char *text) {
    long fd = open_file("/proc/self/smaps", 0), n;
    size_t have = 0;

    if (fd < 0)
        return fd;
    while ((n = CALL(SYS_read, fd, text + have, TEXT_BYTES - 1 - have)) > 0) {
        size_t line = 0;

        have += (size_t)n;
        for (size_t i = 0; i < have; i++) {
            if (text[i] != '\n')
                continue;
            text[i] = '\0';
            scan_line(s, text + line);
            line = i + 1;
        }
        for (size_t i = line; i < have; i++)
            text[i - line] = text[i];
        have -= line;
        if (have == TEXT_BYTES - 1)
            have = 0; /* no line is so long */
    }
    (void)CALL(SYS_close, fd, 0, 0);
    return n < 0 ? n : 0;
}

static void advise(const struct scan *s, int advice) {
    for (u32 i = 0; i < s->n; i++)
        (void)CALL(SYS_madvise, s->ranges[i].begin, s->ranges[i].end - s->ranges[i].begin, advice);
}

/* --- child, before any JavaScript ------------------------------------------------------------- */

/* V8 ends a process that gets no memory by a signal: near its budget that is the reason. */
static void on_fatal(int signal) {
    struct action a = {SIG_DFL, 0, (void *)0, 0};
    u64 data = data_bytes(), left = data < data_limit ? data_limit - data : 0;

    if (data_limit != 0 && (left < NEAR_BYTES || left < budget_bytes / 2))
        end(EXIT_BUDGET);
    (void)sys(SYS_rt_sigaction, signal, (long)&a, 0, 8, 0, 0);
    (void)CALL(SYS_kill, CALL(SYS_getpid, 0, 0, 0), signal, 0);
    end(128 + signal); /* not reached: the signal is not blocked here */
}

/* Handlers never return; the kernel wants an address. */
static void never(void) {
    end(EXIT_SETUP);
}

static void set_signal(int signal, u64 handler) {
    struct action a = {handler, handler > SIG_IGN ? SA_RESTORER | 0x40000000ul /* NODEFER */ : 0,
                       never, 0};

    (void)sys(SYS_rt_sigaction, signal, (long)&a, 0, 8, 0, 0);
}

/* libuv's handlers would write into the pipe of the parent's loop. */
static void take_signals(void) {
    static const u8 fatal[] = {SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGSEGV};

    for (int s = 1; s <= SIGNALS; s++)
        if (s != SIGKILL && s != SIGSTOP)
            set_signal(s, s == SIGPIPE || s == SIGHUP || s == SIGINT ? SIG_IGN : SIG_DFL);
    for (u32 i = 0; i < sizeof(fatal); i++)
        set_signal(fatal[i], (u64)on_fatal);
}

struct descriptors {
    long null, target;
};

/* Cure 2: the number stays taken, what it refers to is let go. */
static void to_null(long fd, long dir, long arg) {
    const struct descriptors *d = (const struct descriptors *)arg;

    if (fd == dir || fd == d->null || fd == d->target)
        return;
    (void)CALL(SYS_dup3, d->null, fd, O_CLOEXEC);
    if (fd < MOST_FDS)
        nulls[fd / 8] |= (u8)(1 << fd % 8);
}

static int take_descriptors(long target) {
    struct descriptors d = {open_file("/dev/null", O_RDWR), target};

    return d.null >= 0 && each_number("/proc/self/fd", to_null, (long)&d) >= 0 ? 0 : -1;
}

/* The slots lie in pages that the linker has made read-only. How large pages are depends on the kernel (aarch64: 4 to 64 KiB). */
static int open_page(u64 at) {
    for (u64 page = 4096; page <= 65536; page *= 4)
        if (CALL(SYS_mprotect, at & ~(page - 1), page, 3) == 0)
            return 0;
    return -1;
}

static int take_slots(void) {
    for (u32 i = 0; i < n_slots; i++) {
        if (open_page((u64)slots[i].at) != 0)
            return -1;
        *slots[i].at = slots[i].to;
    }
    return 0;
}

/* A FIFO whose reader has gone cannot be opened again: that would wait for one until the deadline. */
static int has_reader(long target) {
    struct {
        int fd;
        short events, got;
    } poll = {(int)target, 4 /* OUT */, 0};
    u64 at_once[2] = {0, 0};

    return sys(SYS_ppoll, (long)&poll, 1, (long)at_once, 0, 8, 0) >= 0 &&
           (poll.got & 0x28) == 0; /* ERR, NVAL */
}

static int limit_memory(u64 budget) {
    u64 none[2] = {0, 0}, limit[2];

    if (sys(SYS_prlimit64, 0, RLIMIT_CORE, (long)none, 0, 0, 0) != 0)
        return -1;
    if (budget == 0)
        return 0;
    data_limit = data_bytes() + budget;
    if (data_limit == budget)
        return -1; /* not readable */
    budget_bytes = budget;
    if (sys(SYS_prlimit64, 0, RLIMIT_DATA, 0, (long)limit, 0, 0) != 0)
        return -1;
    if (data_limit > limit[1])
        data_limit = limit[1]; /* the worker's own hard limit */
    limit[0] = limit[1] = data_limit;
    return sys(SYS_prlimit64, 0, RLIMIT_DATA, (long)limit, 0, 0, 0) == 0 ? 0 : -1;
}

/* The kernel's out-of-memory killer takes the child first, and the scheduler takes it last. */
static void step_back(void) {
    long fd = open_file("/proc/self/oom_score_adj", O_RDWR);

    if (fd >= 0) {
        (void)CALL(SYS_write, fd, "1000", 4);
        (void)CALL(SYS_close, fd, 0, 0);
    }
    (void)CALL(SYS_setpriority, 0, 0, 19);
    (void)CALL(SYS_ioprio_set, 1, 0, 3 << 13);
    (void)CALL(SYS_prctl, PR_SET_NAME, "pillion-heap", 0);
}

static void become_child(long target, u64 budget, u64 deadline_ms) {
    u64 timer[4] = {0, 0, deadline_ms / 1000, deadline_ms % 1000 * 1000}, unblocked = 0;

    in_child = 1;
    (void)CALL(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0);
    if (CALL(SYS_getppid, 0, 0, 0) != parent_pid)
        end(EXIT_SETUP); /* it died before we asked to be told */
    take_signals();
    if (CALL(SYS_setitimer, 0, timer, 0) != 0)
        end(EXIT_SETUP);
    step_back();
    if (take_descriptors(target) != 0 || limit_memory(budget) != 0 || take_slots() != 0)
        end(EXIT_SETUP);
    if (!has_reader(target))
        end(EXIT_WRITE);
    /* Last: it makes the files of /proc/self root's. No core file, also where the kernel pipes it to a program. */
    (void)CALL(SYS_prctl, PR_SET_DUMPABLE, 0, 0);
    (void)sys(SYS_rt_sigprocmask, SIG_SETMASK, (long)&unblocked, 0, 8, 0, 0);
}

/* --- the fork --------------------------------------------------------------------------------- */

static long fork_now(struct scan *s, char *text, long target, u64 budget, u64 deadline_ms) {
    u64 all = ~0ul, before = 0;
    long pid;

    if (find_kept(s, text) < 0)
        return NO_SMAPS;
    /* No handler of the parent's runs in the child. */
    (void)sys(SYS_rt_sigprocmask, SIG_SETMASK, (long)&all, (long)&before, 8, 0, 0);
    advise(s, MADV_DOFORK);
    pid = fork();
    if (pid == 0) {
        become_child(target, budget, deadline_ms);
        return 0;
    }
    if (pid < 0)
        pid = -*__errno_location();
    advise(s, MADV_DONTFORK);
    (void)sys(SYS_rt_sigprocmask, SIG_SETMASK, (long)&before, 0, 8, 0, 0);
    return pid;
}

static long start(long target, u64 budget, u64 deadline_ms, int force) {
    struct scan s = {0};
    u64 began = now_us();
    char *scratch;
    long pid;

    if (!force && !quiet())
        return NOT_QUIET;
    scratch = map(SCRATCH_BYTES, 0);
    if (scratch == (void *)0)
        return -ENOMEM;
    s.ranges = (struct range *)scratch;
    *written = 0;
    pid = fork_now(&s, scratch + MOST_RANGES * sizeof(struct range), target, budget, deadline_ms);
    (void)CALL(SYS_munmap, scratch, SCRATCH_BYTES, 0);
    pause_us = now_us() - began;
    return pid;
}

/* --- JavaScript ------------------------------------------------------------------------------- */

#define MOST_ARGUMENTS 4

static void arguments(napi_env env, napi_callback_info info, double v[MOST_ARGUMENTS]) {
    napi_value values[MOST_ARGUMENTS];
    size_t n = MOST_ARGUMENTS;

    for (u32 i = 0; i < MOST_ARGUMENTS; i++)
        v[i] = 0;
    if (napi_get_cb_info(env, info, &n, values, (void *)0, (void *)0) != 0)
        return;
    for (u32 i = 0; i < n && i < MOST_ARGUMENTS; i++)
        (void)napi_get_value_double(env, values[i], &v[i]);
}

static napi_value number(napi_env env, double v) {
    napi_value ret = (void *)0;

    (void)napi_create_double(env, v, &ret);
    return ret;
}

static napi_value js_init(napi_env env, napi_callback_info info) {
    (void)info;
    return number(env, (double)initialize());
}

static napi_value js_fork(napi_env env, napi_callback_info info) {
    double v[MOST_ARGUMENTS];

    arguments(env, info, v);
    if (parent_pid == 0 || in_child || !(v[0] >= 0) || !(v[1] >= 0) || !(v[2] >= 1))
        return number(env, -22);
    return number(env, (double)start((long)v[0], (u64)v[1], (u64)v[2], v[3] != 0));
}

static napi_value js_exit(napi_env env, napi_callback_info info) {
    double v[MOST_ARGUMENTS];

    arguments(env, info, v);
    if (in_child)
        end((long)v[0]);
    return number(env, -1);
}

static napi_value js_wait(napi_env env, napi_callback_info info) {
    double v[MOST_ARGUMENTS];
    int status = 0;
    long rc;

    arguments(env, info, v);
    if (!(v[0] > 1))
        return number(env, -1022);
    rc = sys(SYS_wait4, (long)v[0], (long)&status, 1 /* NOHANG */, 0, 0, 0);
    return number(env, rc == 0 ? -1 : rc < 0 ? (double)(-1000 + rc) : status);
}

static napi_value js_kill(napi_env env, napi_callback_info info) {
    double v[MOST_ARGUMENTS];

    arguments(env, info, v);
    return number(env, v[0] > 1 ? (double)CALL(SYS_kill, (long)v[0], SIGKILL, 0) : -22);
}

static napi_value js_bytes(napi_env env, napi_callback_info info) {
    (void)info;
    return number(env, written != (void *)0 ? (double)*written : 0);
}

static napi_value js_pause(napi_env env, napi_callback_info info) {
    (void)info;
    return number(env, (double)pause_us);
}

__attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env,
                                                                          napi_value exports);

napi_value napi_register_module_v1(napi_env env, napi_value exports) {
    static const struct {
        const char *name;
        napi_callback call;
    } functions[] = {{"init", js_init}, {"fork", js_fork},   {"exit", js_exit},  {"wait", js_wait},
                     {"kill", js_kill}, {"bytes", js_bytes}, {"pause", js_pause}};

    for (u32 i = 0; i < sizeof(functions) / sizeof(functions[0]); i++) {
        napi_value f;

        if (napi_create_function(env, functions[i].name, ~0ul, functions[i].call, (void *)0, &f) !=
                0 ||
            napi_set_named_property(env, exports, functions[i].name, f) != 0)
            return (void *)0;
    }
    return exports;
}
