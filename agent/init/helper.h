/* helper.h - keeps one helper alive. Pure bookkeeping around spawn_helper(): the caller's loop reaps and keeps the time. */
#ifndef PILLION_INIT_HELPER_H
#define PILLION_INIT_HELPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/init/exit_feed.h"

#define HELPER_NEVER UINT64_MAX

/* A helper that lived for so long was well: the next start is at once. */
#define HELPER_WELL_MS 2000
/* Quick deaths by signal: 0, 100, 200, then every 250 ms, and every 10 s after this many in a row. */
#define HELPER_SIGNAL_MOST_MS   250
#define HELPER_MANY_DEATHS      120
#define HELPER_BACKOFF_FIRST_MS 100
/* Quick exits: 0, 100, 200, 400 … */
#define HELPER_BACKOFF_MOST_MS 10000
#define HELPER_LOG_EVERY_MS    60000

struct helper {
    pid_t pid;           /* 0: not running */
    uint64_t started_ms; /* monotonic */
    uint64_t start_at;   /* when to start it (again); HELPER_NEVER */
    uint64_t logged;
    unsigned quick_deaths; /* in a row */
    unsigned restarts;     /* all */
    unsigned starts;
    struct exit_feed feed;
    char **env; /* owned array, strings are the caller's and fd_text */
    char fd_text[32];
};

/* Nothing runs yet. A mistake only means that there will be no helper. */
int helper_init(struct helper *h, char *const *env);
void helper_clear(struct helper *h);
/* To be started by helper_due(). */
void helper_want(struct helper *h, uint64_t now_ms);
/* Starts it when its time has come. */
void helper_due(struct helper *h, uint64_t now_ms);
/* It was reaped. Decides about the next start; not when `last`. */
void helper_exited(struct helper *h, int code, int sig, bool last, uint64_t now_ms);
/* No further start. */
void helper_no_more(struct helper *h);

/* ms until the next start after `quick_deaths` short lives, the last ended by a signal or not. */
uint64_t helper_backoff_ms(unsigned quick_deaths, bool by_signal);

#endif
