/* rules.h - captures that nobody asked for: when a loop is blocked, memory is near its limit, a worker has crashed, so that the
 * evidence is there before somebody comes. PILLION_ON_BLOCKED, PILLION_ON_MEMORY, PILLION_ON_CRASH.
 *
 * A rule does not fire twice for one worker within LIMIT_RULE_COOLDOWN_MS, and all together not more often than
 * PILLION_CAPTURE_LIMIT in any hour. What is held back is counted. Plain value, no I/O, no clock of its own. */
#ifndef PILLION_RULES_H
#define PILLION_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/limits.h"
#include "collectors/capture.h"
#include "collectors/workers.h"

#define RULES_AN_HOUR_MOST 60

enum rule { RULE_BLOCKED, RULE_MEMORY, RULE_CRASH };

struct rules {
    unsigned actions[RULE_CRASH + 1]; /* of each rule: 1 << enum capture_action … */
    unsigned an_hour;                 /* 1 to RULES_AN_HOUR_MOST */
    uint64_t fired_ms[RULES_AN_HOUR_MOST];
    unsigned next; /* the oldest of fired_ms, where the next one goes */
    unsigned n;    /* of them that are filled */
    struct {
        char worker[WORKER_ID_BYTES];
        enum rule rule;
        uint64_t ms;
    } fired[LIMIT_RULE_MEMORY]; /* in any order; ms 0: free */
};

void rules_init(struct rules *r, unsigned on_blocked, unsigned on_memory, unsigned on_crash,
                unsigned an_hour);
/* The actions to take now: each is one capture of the hour. 0: none. Remembers that it fired. now_ms: monotonic, not 0. */
unsigned rules_fire(struct rules *r, enum rule rule, const char *worker, uint64_t now_ms);

#endif
