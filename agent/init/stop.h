/* stop.h - the way to the end: who is told when, and who is killed. Time is given in, so that it can be tried without waiting.
 *
 *   STOP_NO ──SIGTERM──► STOP_ASKED ──main process gone──► STOP_DRAIN ──no child but the helper──► STOP_FLUSH ──► STOP_DONE
 *      └───────────────────main process gone──────────────────►┘
 *
 * kill_at is one second (half of a stop timeout below two) before end_at: that second is the helper's. */
#ifndef PILLION_INIT_STOP_H
#define PILLION_INIT_STOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/init/children.h"

#define STOP_NEVER         UINT64_MAX
#define STOP_KILL_EVERY_MS 50  /* what forks while it is killed, is killed again */
#define STOP_LAST_MS       200 /* from the first KILL on, whatever the time */

enum stop_phase { STOP_NO, STOP_ASKED, STOP_DRAIN, STOP_FLUSH, STOP_DONE };

struct stop {
    enum stop_phase phase;
    uint64_t timeout_ms;
    uint64_t hint_ms; /* the last INT or QUIT: a container's stop signal may be one of them */
    uint64_t end_at;  /* STOP_NEVER while the clock does not run */
    uint64_t kill_at; /* next round of KILL */
    bool killing;     /* kill_at has been reached */
    struct pids told; /* children that got SIGTERM; while killing: SIGKILL */
    pid_t group;      /* with -g: the group that was told as a whole, else 0 */
};

void stop_init(struct stop *s, uint64_t timeout_ms);
void stop_clear(struct stop *s);
/* SIGTERM came: starts the clock, once. */
void stop_ask(struct stop *s, uint64_t now_ms);
/* SIGINT or SIGQUIT came: kills nobody, but if the main process ends now, the clock has been running since then. */
void stop_hint(struct stop *s, uint64_t now_ms);
void stop_main_gone(struct stop *s, uint64_t now_ms);
/* Children have come or gone, or a deadline is over: does what is due. `helper` is its pid or 0. After it, `phase` may have
 * changed; STOP_FLUSH is entered here, and the helper is told here. */
void stop_step(struct stop *s, pid_t helper, uint64_t now_ms);
/* When stop_step() wants to be called without an event; STOP_NEVER. */
uint64_t stop_next(const struct stop *s);

#endif
