#include "agent/rules.h"

#include "agent/base/counters.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define HOUR_MS 3600000

void rules_init(struct rules *r, unsigned on_blocked, unsigned on_memory, unsigned on_crash,
                unsigned an_hour) {
    *r = (struct rules){
        .actions =
            {[RULE_BLOCKED] = on_blocked, [RULE_MEMORY] = on_memory, [RULE_CRASH] = on_crash},
        .an_hour = an_hour > RULES_AN_HOUR_MOST ? RULES_AN_HOUR_MOST : an_hour};
}

/* The place of this worker and rule, else the one that fired longest ago. */
static size_t place_of(const struct rules *r, enum rule rule, const char *worker) {
    size_t oldest = 0;

    for (size_t i = 0; i < LIMIT_RULE_MEMORY; i++) {
        if (r->fired[i].ms != 0 && r->fired[i].rule == rule &&
            strcmp(r->fired[i].worker, worker) == 0)
            return i;
        if (r->fired[i].ms < r->fired[oldest].ms)
            oldest = i;
    }
    return oldest;
}

static bool is_cooling(const struct rules *r, size_t at, enum rule rule, const char *worker,
                       uint64_t now_ms) {
    return r->fired[at].ms != 0 && r->fired[at].rule == rule &&
           strcmp(r->fired[at].worker, worker) == 0 &&
           now_ms - r->fired[at].ms < LIMIT_RULE_COOLDOWN_MS;
}

/* One more within the hour? */
static bool take_turn(struct rules *r, uint64_t now_ms) {
    /* In a full ring the oldest is the one that was so many captures ago. */
    if (r->n == r->an_hour && now_ms - r->fired_ms[r->next] < HOUR_MS)
        return false;
    r->fired_ms[r->next] = now_ms;
    r->next = (r->next + 1) % r->an_hour;
    r->n += r->n < r->an_hour;
    return true;
}

unsigned rules_fire(struct rules *r, enum rule rule, const char *worker, uint64_t now_ms) {
    size_t at = place_of(r, rule, worker);
    unsigned fire = 0;

    if (r->actions[rule] == 0 || r->an_hour == 0)
        return 0;
    if (is_cooling(r, at, rule, worker, now_ms)) {
        counter_add(COUNTER_RULES_HELD_BACK, 1);
        return 0;
    }
    for (unsigned action = 0; action < CAPTURE_ACTIONS; action++) {
        if ((r->actions[rule] & (1u << action)) == 0)
            continue;
        if (take_turn(r, now_ms))
            fire |= 1u << action;
        else
            counter_add(COUNTER_RULES_HELD_BACK, 1);
    }
    if (fire == 0)
        return 0;
    (void)text_copy(r->fired[at].worker, sizeof(r->fired[at].worker), worker);
    r->fired[at].rule = rule;
    r->fired[at].ms = now_ms;
    return fire;
}
