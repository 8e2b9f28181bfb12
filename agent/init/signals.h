/* signals.h - init's own signal state, and giving children the one that we found. */
#ifndef PILLION_INIT_SIGNALS_H
#define PILLION_INIT_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#define SIGNALS_CHANGED 4

struct signals {
    sigset_t mask; /* as found */
    struct sigaction action[SIGNALS_CHANGED];
};

/* Blocks everything, and gives those signals their default action whose inherited "ignore" would cost us exit statuses or job
 * control. *s remembers what was there. */
int signals_take(struct signals *s);
/* In a child, before exec: as before signals_take(). What the terminal sent in the meantime is dropped: init got it as well. */
void signals_give_back(const struct signals *s);
/* In a child, before exec: nothing blocked and all default, but SIGTTOU ignored: the helper logs from the background. */
void signals_clean(void);

/* False for what nobody can catch (KILL, STOP), for CHLD, and for what the C library keeps for itself. */
bool signals_can_forward(int sig);
/* Did we raise it ourselves, by writing to a closed pipe or beyond a file size limit? */
bool signals_own(const siginfo_t *si);

#define SIGNALS_FOREVER UINT64_MAX
/* The next signal (its number, *si filled), or 0 after timeout_ms. */
int signals_wait(siginfo_t *si, uint64_t timeout_ms);

/* Stops this process, or its whole group as a terminal would, by `sig` (TSTP, TTIN, TTOU) and returns after SIGCONT. False at once
 * when the kernel does not let us stop: pid 1, or nobody who could continue us. */
bool signals_stop_self(int sig, bool group);

#endif
