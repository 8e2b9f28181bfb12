/* exits.h - why a process ended, from what can be known of it. Nothing is guessed: what is not known is said as not known.
 *
 * Evidence comes from several sides and at several moments; the caller collects it in a plain struct and asks for the cause when
 * it needs one. A status is what waitpid() gives. In order of weight:
 *   1. the kernel, by a pidfd that was opened while the process lived (PIDFD_GET_INFO, Linux 6.15; after it was reaped)
 *   2. the kernel, by /proc/<pid>/stat of a zombie (before it is reaped)
 *   3. whoever reaped it: its parent (preload event `child_exit`), or our init's feed
 *   4. the process itself (preload event `exit`): its code, and why
 * The OOM killer is known by the container's oom_kill counter together with SIGKILL. */
#ifndef PILLION_EXITS_H
#define PILLION_EXITS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define EXIT_TEXT_BYTES 384

struct exit_evidence {
    bool has_pidfd, has_zombie, has_parent, has_init, has_worker;
    int pidfd_status;  /* exits_from_pidfd() */
    int zombie_status; /* exits_from_zombie() */
    int parent_code;   /* child_exit: code, or -1 and the signal */
    int parent_signal;
    int init_status;
    int worker_code;          /* exit event */
    char worker_reason[64];   /* uncaughtException, unhandledRejection, or "" */
    char worker_message[256]; /* "" when there is none */

    double oom_kills; /* rise of the container's oom_kill counter around the exit; NaN: not known */
    unsigned killed_beside; /* other processes that ended by SIGKILL in the same time */
    bool oom_group;         /* the OOM killer takes the whole group */
    double memory_limit;    /* of the container, bytes; NaN: none or not known */
    double heap_share;      /* V8's heap in use / its limit in the last sample; NaN: not known */
};

enum exit_kind {
    EXIT_KIND_UNKNOWN,
    EXIT_KIND_CODE,      /* ended by itself, code 0 or another */
    EXIT_KIND_EXCEPTION, /* uncaught exception or unhandled rejection */
    EXIT_KIND_ABORT, /* SIGABRT, SIGTRAP, SIGILL: a fatal error inside Node.js, or process.abort() */
    EXIT_KIND_CRASH,  /* SIGSEGV, SIGBUS, SIGFPE, SIGSYS */
    EXIT_KIND_SIGNAL, /* any other signal */
    EXIT_KIND_OOM_KILL
};

enum exit_confidence { EXIT_NOT_KNOWN, EXIT_LIKELY, EXIT_REPORTED, EXIT_CERTAIN };

struct exit_cause {
    enum exit_kind kind;
    enum exit_confidence confidence;
    int code;           /* 0 to 255, or -1: ended by a signal, or not known */
    int signal;         /* 0: none, or not known */
    bool oom;           /* killed by the OOM killer */
    bool core;          /* a core was dumped */
    const char *source; /* static: pidfd, proc, parent, init, worker, none */
    char text
        [EXIT_TEXT_BYTES]; /* "exit code 1 after uncaughtException: …", "killed by SIGKILL (out of memory: …)" */
};

void exits_evidence_init(struct exit_evidence *e); /* nothing known */
void exits_cause(const struct exit_evidence *e, struct exit_cause *ret);

/* unknown, exit, uncaught_exception, abort, crash, signal, oom_kill: for records and events. */
const char *exit_kind_name(enum exit_kind k);
const char *exit_confidence_name(enum exit_confidence c); /* unknown, likely, reported, certain */
/* "SIGKILL"; "signal 77" for one without a name. */
const char *exit_signal_name(int signal, char buf[16]);

/* pidfd of a live process, close-on-exec, for the caller to close. -ESRCH, -ENOSYS (before Linux 5.3), … */
int exits_pidfd(pid_t pid);
/* What the kernel kept of an ended and reaped process. -EAGAIN: not ended or not reaped yet; -ENOTSUP: this kernel does not keep
 * it; other negative errno. *ret_status as waitpid() gives it. */
int exits_from_pidfd(int pidfd, int *ret_status);
/* `proc_dirfd` is its /proc/<pid>. -EAGAIN: not a zombie; -EACCES: the kernel does not tell us; -ESRCH: reaped already. */
int exits_from_zombie(int proc_dirfd, int *ret_status);

#endif
