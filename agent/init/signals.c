#include "agent/init/signals.h"

#include <errno.h>
#include <time.h>

#include "agent/base/mem.h"

/* Ignored SIGCHLD makes the kernel reap for us and lose the status; the others are how we stop ourselves (Ctrl-Z). */
static const int changed[SIGNALS_CHANGED] = {SIGCHLD, SIGTSTP, SIGTTIN, SIGTTOU};

int signals_take(struct signals *s) {
    const struct sigaction standard = {.sa_handler = SIG_DFL};
    sigset_t all;

    (void)sigfillset(&all);
    if (sigprocmask(SIG_SETMASK, &all, &s->mask) != 0)
        return -errno;
    for (size_t i = 0; i < SIGNALS_CHANGED; i++)
        if (sigaction(changed[i], &standard, &s->action[i]) != 0)
            return -errno;
    return 0;
}

void signals_give_back(const struct signals *s) {
    static const int from_terminal[] = {SIGINT, SIGQUIT, SIGTSTP, SIGHUP};
    const struct timespec now = {0};
    sigset_t set;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(from_terminal); i++)
        (void)sigaddset(&set, from_terminal[i]);
    while (sigtimedwait(&set, NULL, &now) > 0)
        ;
    for (size_t i = 0; i < SIGNALS_CHANGED; i++)
        (void)sigaction(changed[i], &s->action[i], NULL);
    (void)sigprocmask(SIG_SETMASK, &s->mask, NULL);
}

void signals_clean(void) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++)
        (void)sigaction(sig, &action, NULL); /* fails for KILL, STOP and the C library's own */
    action.sa_handler = SIG_IGN;
    (void)sigaction(SIGTTOU, &action, NULL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

bool signals_can_forward(int sig) {
    if (sig <= 0 || sig > SIGRTMAX || sig == SIGKILL || sig == SIGSTOP || sig == SIGCHLD)
        return false;
    return sig < 32 || sig >= SIGRTMIN; /* from 32 on glibc keeps two, musl three for its threads */
}

bool signals_own(const siginfo_t *si) {
    return si->si_code == SI_USER && si->si_pid == getpid();
}

int signals_wait(siginfo_t *si, uint64_t timeout_ms) {
    struct timespec t = {(time_t)(timeout_ms / 1000), (long)(timeout_ms % 1000) * 1000000};
    sigset_t all;
    int sig;

    (void)sigfillset(&all);
    sig = timeout_ms == SIGNALS_FOREVER ? sigwaitinfo(&all, si) : sigtimedwait(&all, si, &t);
    return sig > 0 ? sig : 0; /* EAGAIN: time is up; EINTR: we were stopped and go on */
}

bool signals_stop_self(int sig, bool group) {
    const struct timespec now = {0};
    sigset_t set, pending;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGCONT);
    while (sigtimedwait(&set, NULL, &now) > 0) /* an old one would look like the one we wait for */
        ;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, sig);
    if (kill(group ? 0 : getpid(), sig) != 0)
        return false;
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL); /* here we stand still until SIGCONT */
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    /* The kernel drops a stop that nobody could undo; then there is no SIGCONT, which is blocked and would be waiting. */
    return sigpending(&pending) == 0 && sigismember(&pending, SIGCONT) == 1;
}
