#include "collectors/exits.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "collectors/proc.h"

/* include/uapi/linux/pidfd.h of Linux 6.15. Ours under other names, because a distribution's header may have it, may not, or may
 * have a longer one; the kernel takes any size from this first one (PIDFD_INFO_SIZE_VER0) up. */
struct kernel_pidfd_info {
    uint64_t mask;
    uint64_t cgroupid;
    uint32_t pid, tgid, ppid;
    uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    int32_t exit_code;
};
_Static_assert(sizeof(struct kernel_pidfd_info) == 64, "PIDFD_INFO_SIZE_VER0");

#define KERNEL_PIDFD_GET_INFO  _IOWR(0xFF, 11, struct kernel_pidfd_info)
#define KERNEL_PIDFD_INFO_EXIT (UINT64_C(1) << 3)

void exits_evidence_init(struct exit_evidence *e) {
    *e = (struct exit_evidence){
        .oom_kills = NAN,
        .memory_limit = NAN,
        .heap_share = NAN,
    };
}

const char *exit_kind_name(enum exit_kind k) {
    static const char *const names[] = {
        "unknown", "exit", "uncaught_exception", "abort", "crash", "signal", "oom_kill",
    };

    return names[k];
}

const char *exit_confidence_name(enum exit_confidence c) {
    static const char *const names[] = {"unknown", "likely", "reported", "certain"};

    return names[c];
}

const char *exit_signal_name(int signal, char buf[16]) {
    static const struct {
        int number;
        const char *name;
    } names[] = {
        {SIGHUP, "SIGHUP"},   {SIGINT, "SIGINT"},       {SIGQUIT, "SIGQUIT"},
        {SIGILL, "SIGILL"},   {SIGTRAP, "SIGTRAP"},     {SIGABRT, "SIGABRT"},
        {SIGBUS, "SIGBUS"},   {SIGFPE, "SIGFPE"},       {SIGKILL, "SIGKILL"},
        {SIGUSR1, "SIGUSR1"}, {SIGSEGV, "SIGSEGV"},     {SIGUSR2, "SIGUSR2"},
        {SIGPIPE, "SIGPIPE"}, {SIGALRM, "SIGALRM"},     {SIGTERM, "SIGTERM"},
        {SIGXCPU, "SIGXCPU"}, {SIGXFSZ, "SIGXFSZ"},     {SIGPROF, "SIGPROF"},
        {SIGIO, "SIGIO"},     {SIGSYS, "SIGSYS"},       {SIGSTKFLT, "SIGSTKFLT"},
        {SIGPWR, "SIGPWR"},   {SIGVTALRM, "SIGVTALRM"},
    };

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (names[i].number == signal)
            return names[i].name;
    (void)snprintf(buf, 16, "signal %d", signal);
    return buf;
}

/* Code and signal from what weighs most. */
static void take_status(struct exit_cause *c, int status, const char *source) {
    c->source = source;
    if (WIFSIGNALED(status)) {
        c->signal = WTERMSIG(status);
        c->core = WCOREDUMP(status);
    } else {
        c->code = WEXITSTATUS(status);
    }
}

static void take_best(const struct exit_evidence *e, struct exit_cause *c) {
    if (e->has_pidfd) {
        take_status(c, e->pidfd_status, "pidfd");
        c->confidence = EXIT_CERTAIN;
    } else if (e->has_zombie) {
        take_status(c, e->zombie_status, "proc");
        c->confidence = EXIT_CERTAIN;
    } else if (e->has_parent) {
        c->source = "parent";
        c->code = e->parent_signal == 0 ? e->parent_code : -1;
        c->signal = e->parent_signal;
        c->confidence = EXIT_REPORTED;
    } else if (e->has_init) {
        take_status(c, e->init_status, "init");
        c->confidence = EXIT_CERTAIN; /* our own init's waitid() */
    } else if (e->has_worker) {
        c->source = "worker";
        c->code = e->worker_code;
        c->confidence =
            EXIT_LIKELY; /* it said so before it ended; what came after it could not say */
    }
}

static enum exit_kind kind_of_signal(int signal) {
    switch (signal) {
    case SIGABRT:
    case SIGTRAP: /* V8's own fatal errors end in a breakpoint or an illegal instruction on purpose */
    case SIGILL:
        return EXIT_KIND_ABORT;
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGSYS:
        return EXIT_KIND_CRASH;
    default:
        return EXIT_KIND_SIGNAL;
    }
}

/* The counter says that the OOM killer was here, SIGKILL that it may have been this one. Where others were killed beside it and the
 * kernel counted fewer, it is likely only. */
static void judge_oom(const struct exit_evidence *e, struct exit_cause *c) {
    if (c->signal != SIGKILL || !(e->oom_kills >= 1))
        return;
    c->kind = EXIT_KIND_OOM_KILL;
    c->oom = true;
    if (!e->oom_group && e->oom_kills < 1 + (double)e->killed_beside)
        c->confidence = EXIT_LIKELY;
}

static void write_signal(const struct exit_evidence *e, struct exit_cause *c) {
    char buf[16], size[32];
    const char *name = exit_signal_name(c->signal, buf);

    if (c->oom && !isnan(e->memory_limit)) {
        text_format_size((uint64_t)e->memory_limit, size, sizeof(size));
        (void)snprintf(c->text, sizeof(c->text),
                       "killed by %s (out of memory: the container's limit of %s)", name, size);
    } else if (c->oom) {
        (void)snprintf(c->text, sizeof(c->text),
                       "killed by %s (out of memory: the kernel's OOM killer)", name);
    } else if (c->kind == EXIT_KIND_ABORT && e->heap_share >= 0.9) {
        (void)snprintf(c->text, sizeof(c->text),
                       "aborted by %s; its JavaScript heap was at %.0f %% of its limit", name,
                       100 * e->heap_share);
    } else if (c->kind == EXIT_KIND_ABORT) {
        (void)snprintf(c->text, sizeof(c->text), "aborted by %s", name);
    } else if (c->kind == EXIT_KIND_CRASH) {
        (void)snprintf(c->text, sizeof(c->text), "crashed by %s", name);
    } else {
        (void)snprintf(c->text, sizeof(c->text), "killed by %s", name);
    }
    if (c->oom && c->confidence == EXIT_LIKELY)
        (void)snprintf(c->text + strlen(c->text), sizeof(c->text) - strlen(c->text),
                       "; likely, others were killed at the same time");
    if (c->core)
        (void)snprintf(c->text + strlen(c->text), sizeof(c->text) - strlen(c->text),
                       ", core dumped");
}

/* Its own words count only where they fit what the kernel says: a process can say "1" and then be killed. */
static bool own_words_fit(const struct exit_evidence *e, const struct exit_cause *c) {
    return e->has_worker && e->worker_reason[0] != '\0' && e->worker_code == c->code;
}

static void write_code(const struct exit_evidence *e, struct exit_cause *c) {
    if (own_words_fit(e, c)) {
        c->kind = EXIT_KIND_EXCEPTION;
        (void)snprintf(c->text, sizeof(c->text), "exit code %d after %s%s%s", c->code,
                       e->worker_reason, e->worker_message[0] != '\0' ? ": " : "",
                       e->worker_message);
    } else {
        (void)snprintf(c->text, sizeof(c->text), "exit code %d%s", c->code,
                       c->confidence == EXIT_LIKELY ? ", as it said itself before it ended" : "");
    }
}

void exits_cause(const struct exit_evidence *e, struct exit_cause *ret) {
    *ret = (struct exit_cause){.code = -1, .source = "none"};
    take_best(e, ret);
    if (ret->signal != 0) {
        ret->kind = kind_of_signal(ret->signal);
        judge_oom(e, ret);
        write_signal(e, ret);
    } else if (ret->code >= 0) {
        ret->kind = EXIT_KIND_CODE;
        write_code(e, ret);
    } else {
        ret->confidence = EXIT_NOT_KNOWN;
        ret->source = "none";
        (void)snprintf(ret->text, sizeof(ret->text), "ended, and nobody can say how%s",
                       e->oom_kills >= 1
                           ? "; the OOM killer killed a process of this container at that time"
                           : "");
    }
}

int exits_pidfd(pid_t pid) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0u); /* close-on-exec by itself */

    return fd < 0 ? -errno : fd;
}

int exits_from_pidfd(int pidfd, int *ret_status) {
    struct kernel_pidfd_info info = {.mask = KERNEL_PIDFD_INFO_EXIT};

    if (ioctl(pidfd, KERNEL_PIDFD_GET_INFO, &info) != 0) {
        /* EINVAL, ENOTTY: Linux before 6.13; ESRCH: reaped, on 6.13 and 6.14, which do not keep the status */
        return errno == EINVAL || errno == ENOTTY || errno == ESRCH ? -ENOTSUP : -errno;
    }
    if ((info.mask & KERNEL_PIDFD_INFO_EXIT) == 0)
        return -EAGAIN;
    *ret_status = info.exit_code;
    return 0;
}

int exits_from_zombie(int proc_dirfd, int *ret_status) {
    struct proc_identity id;
    int rc = proc_identity(proc_dirfd, &id);

    if (rc != 0)
        return rc;
    if (id.state != 'Z' && id.state != 'X')
        return -EAGAIN;
    if (id.exit_status < 0)
        return -EACCES;
    *ret_status = id.exit_status;
    return 0;
}
