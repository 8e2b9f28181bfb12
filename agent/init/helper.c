#include "agent/init/helper.h"

#include <errno.h>
#include <sysexits.h>

#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/init/prepare.h"
#include "agent/init/spawn.h"

int helper_init(struct helper *h, char *const *env) {
    size_t n = 0, out = 0;
    int rc;

    *h = (struct helper){.start_at = HELPER_NEVER};
    rc = exit_feed_open(&h->feed);
    if (rc != 0)
        return rc;
    while (env[n] != NULL)
        n++;
    h->env = mem_calloc(n + 2, sizeof(*h->env));
    if (h->env == NULL) {
        exit_feed_close(&h->feed);
        return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++)
        if (!text_starts(env[i], "PILLION_INIT_FD="))
            h->env[out++] = env[i];
    (void)snprintf(h->fd_text, sizeof(h->fd_text), "PILLION_INIT_FD=%d", SPAWN_FEED_FD);
    h->env[out] = h->fd_text;
    return 0;
}

void helper_clear(struct helper *h) {
    exit_feed_close(&h->feed);
    mem_free(h->env);
    *h = (struct helper){.start_at = HELPER_NEVER, .feed = {-1, -1, false}};
}

void helper_want(struct helper *h, uint64_t now_ms) {
    if (h->env != NULL)
        h->start_at = now_ms;
}

void helper_no_more(struct helper *h) {
    h->start_at = HELPER_NEVER;
}

uint64_t helper_backoff_ms(unsigned quick_deaths, bool by_signal) {
    uint64_t most = by_signal && quick_deaths <= HELPER_MANY_DEATHS ? HELPER_SIGNAL_MOST_MS
                                                                    : HELPER_BACKOFF_MOST_MS;
    uint64_t ms = HELPER_BACKOFF_FIRST_MS;

    if (quick_deaths <= 1)
        return 0;
    for (unsigned i = 2; i < quick_deaths && ms < most; i++)
        ms *= 2;
    return ms < most ? ms : most;
}

static void fall_back(struct helper *h, bool by_signal, uint64_t now_ms) {
    h->quick_deaths++;
    h->start_at = now_ms + helper_backoff_ms(h->quick_deaths, by_signal);
}

void helper_due(struct helper *h, uint64_t now_ms) {
    char name[] = "pillion", command[] = "agent";
    char *argv[] = {name, command, NULL};
    int rc;

    if (h->pid != 0 || h->start_at == HELPER_NEVER || now_ms < h->start_at)
        return;
    h->start_at = HELPER_NEVER;
    rc = spawn_helper(&h->pid, argv, h->env, h->feed.readfd);
    if (rc == 0) {
        h->started_ms = now_ms;
        if (h->starts++ > 0)
            h->restarts++;
        log_debug("helper started, pid %ld", (long)h->pid);
        return;
    }
    h->pid = 0;
    if (rc == -ENOENT || rc == -EACCES ||
        rc == -ENOEXEC) { /* no /proc, or it may not be executed */
        log_warn("cannot start the helper (/proc/self/exe: %s): the application runs without it",
                 strerror(-rc));
        return;
    }
    fall_back(h, false, now_ms);
    if (log_due(&h->logged, HELPER_LOG_EVERY_MS))
        log_warn("cannot start the helper: %s; trying again", strerror(-rc));
}

void helper_exited(struct helper *h, int code, int sig, bool last, uint64_t now_ms) {
    long pid = h->pid;

    h->pid = 0;
    if (last)
        return;
    if (sig == 0 && (code == EX_CONFIG || code == EX_UNAVAILABLE)) {
        log_debug("the helper ended with code %d and is not started again", code);
        return;
    }
    if (now_ms - h->started_ms >= HELPER_WELL_MS)
        h->quick_deaths = 0;
    fall_back(h, sig != 0, now_ms);
    if (!log_due(&h->logged, HELPER_LOG_EVERY_MS))
        return;
    if (sig != 0)
        log_warn("the helper (pid %ld) was ended by signal %d (%s); starting it again, the "
                 "application is not affected",
                 pid, sig, strsignal(sig));
    else
        log_warn("the helper (pid %ld) ended with code %d; starting it again, the application is "
                 "not affected",
                 pid, code);
}
