/* schedule.h - when a helper speaks to the registry: pure decisions, no clock, no loop, no network.
 *
 * Times are milliseconds of any clock that does not go back; the caller passes `now` and carries
 * out what schedule_next() says. The rules (promises P40, P43, P45):
 *  - the first registration is spread over SCHEDULE_SPREAD_MS by a key made of the names of
 *    application and instance: containers that start together do not arrive together;
 *  - a pass (heartbeat) each period; one that the registry does not know us for leads to a
 *    registration at once;
 *  - never more than one registration a minute on average, three at once at most (a start, a
 *    registry that lost everything, and once more), and after one that was refused none for a
 *    minute. One that could not be sent because nobody listens is none;
 *  - what is registered and no longer true is registered again a minute after the last time at the
 *    earliest. */
#ifndef PILLION_UPLOADER_REGISTRY_SCHEDULE_H
#define PILLION_UPLOADER_REGISTRY_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#define SCHEDULE_SPREAD_MS   30000
#define SCHEDULE_REGISTER_MS 60000
#define SCHEDULE_NEVER       UINT64_MAX

/* --- chance ------------------------------------------------------------------------------------------------------------------ */

/* The same for the same names, whenever and wherever it is asked. */
uint64_t schedule_key(const char *app, const char *instance);
/* A place in [0, window_ms) for this container and this occasion ("registration", "delivery"). */
uint64_t schedule_spread(uint64_t key, const char *occasion, uint64_t window_ms);

struct schedule_random {
    uint64_t state;
};

/* Evenly in [least, most]. */
uint64_t schedule_between(struct schedule_random *r, uint64_t least, uint64_t most);
/* The wait after the nth failure in a row, n from 1: first, twice as much …, at most `most`; of
 * that a random half is left out, so that those who failed together do not come back together. */
uint64_t schedule_backoff(struct schedule_random *r, unsigned n, uint64_t first, uint64_t most);

/* --- a bucket of tokens ------------------------------------------------------------------------------------------------------ */

struct schedule_bucket {
    uint64_t every_ms; /* a token comes back */
    unsigned burst;    /* so many are there after a rest */
    uint64_t full_ms;  /* when all of them would be back; 0 at first */
};

/* When the next token can be taken: now, or later. */
uint64_t schedule_bucket_at(const struct schedule_bucket *b, uint64_t now);
void schedule_bucket_take(struct schedule_bucket *b, uint64_t now);

/* --- registration ------------------------------------------------------------------------------------------------------------ */

enum schedule_action { SCHEDULE_REGISTER, SCHEDULE_PASS };

enum schedule_answer {
    SCHEDULE_DONE,
    SCHEDULE_FORGOTTEN, /* to a pass: the registry does not know us */
    SCHEDULE_REFUSED,   /* it answered, and not with yes */
    SCHEDULE_SILENT,    /* it may have arrived, no answer came */
    SCHEDULE_UNREACHED  /* it did not arrive */
};

struct schedule_rules {
    uint64_t pass_least_ms, pass_most_ms; /* from the begin of one pass to the next; equal: exact */
    uint64_t retry_first_ms, retry_most_ms; /* after SCHEDULE_SILENT and SCHEDULE_UNREACHED */
};

extern const struct schedule_rules schedule_consul; /* TTL 30 s */
extern const struct schedule_rules schedule_eureka; /* lease 90 s */

struct schedule {
    const struct schedule_rules *rules;
    struct schedule_random random;
    struct schedule_bucket registrations;
    bool registered;        /* as far as is known */
    bool changed;           /* what is registered is no longer true */
    uint64_t registered_ms; /* begin of the last registration that arrived; SCHEDULE_NEVER none */
    uint64_t register_due;
    uint64_t pass_due;  /* SCHEDULE_NEVER before the first registration */
    uint64_t began_ms;  /* what is under way */
    unsigned unreached; /* in a row */
};

void schedule_begin(struct schedule *s, const struct schedule_rules *rules, uint64_t key,
                    uint64_t now);
/* What comes next, and when: now or earlier means at once. */
uint64_t schedule_next(const struct schedule *s, uint64_t now, enum schedule_action *ret);
/* It is being carried out … */
void schedule_sent(struct schedule *s, enum schedule_action action, uint64_t now);
/* … and this is what came of it. One thing is under way at a time. */
void schedule_answered(struct schedule *s, enum schedule_action action, enum schedule_answer answer,
                       uint64_t now);
void schedule_changed(struct schedule *s);

#endif
