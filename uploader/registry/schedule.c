#include "uploader/registry/schedule.h"

#include <stddef.h>

/* Between 9 and 9.8 s and not around 10: a registry that comes back with nothing on its disk has
 * us again within 10 s, the answer's time included. */
const struct schedule_rules schedule_consul = {9000, 9800, 1000, 8000};
/* Eureka's self-preservation counts on heartbeats that are 30 s apart. */
const struct schedule_rules schedule_eureka = {30000, 30000, 2000, 10000};

#define REFUSED_EXTRA_MS 6000 /* of chance, beyond the minute */

/* --- chance --- */

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014): every bit of x moves every bit of it. */
static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* FNV-1a over the text and a zero behind it. */
static uint64_t add(uint64_t h, const char *s) {
    do
        h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    while (*s++ != '\0');
    return h;
}

uint64_t schedule_key(const char *app, const char *instance) {
    return mix(add(add(0xcbf29ce484222325u, app), instance));
}

uint64_t schedule_spread(uint64_t key, const char *occasion, uint64_t window_ms) {
    return window_ms == 0 ? 0 : mix(add(key, occasion)) % window_ms;
}

uint64_t schedule_between(struct schedule_random *r, uint64_t least, uint64_t most) {
    r->state += 0x9e3779b97f4a7c15u;
    return most <= least ? least : least + mix(r->state) % (most - least + 1);
}

uint64_t schedule_backoff(struct schedule_random *r, unsigned n, uint64_t first, uint64_t most) {
    uint64_t wait = first;

    while (n-- > 1 && wait < most)
        wait *= 2;
    if (wait > most)
        wait = most;
    return schedule_between(r, wait / 2, wait);
}

/* --- a bucket of tokens --- */

uint64_t schedule_bucket_at(const struct schedule_bucket *b, uint64_t now) {
    uint64_t rest = b->every_ms * (b->burst - 1);

    return b->full_ms > now + rest ? b->full_ms - rest : now;
}

void schedule_bucket_take(struct schedule_bucket *b, uint64_t now) {
    b->full_ms = (b->full_ms > now ? b->full_ms : now) + b->every_ms;
}

/* --- registration --- */

void schedule_begin(struct schedule *s, const struct schedule_rules *rules, uint64_t key,
                    uint64_t now) {
    *s = (struct schedule){
        .rules = rules,
        .random = {key},
        .registrations = {SCHEDULE_REGISTER_MS, 3, 0},
        .registered_ms = SCHEDULE_NEVER,
        .register_due = now + schedule_spread(key, "registration", SCHEDULE_SPREAD_MS),
        .pass_due = SCHEDULE_NEVER,
    };
}

static uint64_t register_at(const struct schedule *s, uint64_t now) {
    uint64_t free = schedule_bucket_at(&s->registrations, now);
    uint64_t due = s->register_due;

    if (s->registered && !s->changed)
        return SCHEDULE_NEVER;
    if (s->registered && s->registered_ms != SCHEDULE_NEVER &&
        due < s->registered_ms + SCHEDULE_REGISTER_MS)
        due = s->registered_ms + SCHEDULE_REGISTER_MS;
    return due > free ? due : free;
}

uint64_t schedule_next(const struct schedule *s, uint64_t now, enum schedule_action *ret) {
    uint64_t at = register_at(s, now);

    *ret = SCHEDULE_REGISTER;
    if (s->pass_due < at) {
        *ret = SCHEDULE_PASS;
        at = s->pass_due;
    }
    return at;
}

void schedule_sent(struct schedule *s, enum schedule_action action, uint64_t now) {
    s->began_ms = now;
    if (action == SCHEDULE_REGISTER)
        s->changed = false; /* what becomes untrue from now on is not in it */
}

static uint64_t next_pass(struct schedule *s, uint64_t now) {
    uint64_t every = schedule_between(&s->random, s->rules->pass_least_ms, s->rules->pass_most_ms);
    uint64_t due = s->began_ms + every;

    return due > now ? due : now;
}

static uint64_t retry(struct schedule *s, uint64_t now) {
    s->unreached++;
    return now + schedule_backoff(&s->random, s->unreached, s->rules->retry_first_ms,
                                  s->rules->retry_most_ms);
}

static void register_answered(struct schedule *s, enum schedule_answer answer, uint64_t now) {
    if (answer == SCHEDULE_UNREACHED) {
        s->register_due = retry(s, now);
    } else {
        schedule_bucket_take(&s->registrations, s->began_ms);
        s->registered_ms = s->began_ms;
        s->register_due = s->began_ms + schedule_between(&s->random, SCHEDULE_REGISTER_MS,
                                                         SCHEDULE_REGISTER_MS + REFUSED_EXTRA_MS);
    }
    if (answer == SCHEDULE_SILENT && s->pass_due == SCHEDULE_NEVER)
        s->pass_due = next_pass(s, now); /* it may have arrived: a pass will tell */
    if (answer != SCHEDULE_DONE) {
        s->changed = true;
        return;
    }
    s->registered = true;
    s->unreached = 0;
    s->register_due = now;
    s->pass_due = next_pass(s, now);
}

static void pass_answered(struct schedule *s, enum schedule_answer answer, uint64_t now) {
    uint64_t sooner;

    s->pass_due = next_pass(s, now);
    switch (answer) {
    case SCHEDULE_DONE:
        s->registered = true; /* also when a registration had seemed to fail */
        s->unreached = 0;
        return;
    case SCHEDULE_FORGOTTEN:
        s->registered =
            false; /* register_due is past, or a minute after the last that was refused */
        s->unreached = 0;
        return;
    case SCHEDULE_REFUSED:
        s->unreached = 0;
        return;
    default:
        sooner = retry(s, now);
        if (sooner < s->pass_due)
            s->pass_due = sooner;
    }
}

void schedule_answered(struct schedule *s, enum schedule_action action, enum schedule_answer answer,
                       uint64_t now) {
    if (action == SCHEDULE_REGISTER)
        register_answered(s, answer, now);
    else
        pass_answered(s, answer, now);
}

void schedule_changed(struct schedule *s) {
    s->changed = true;
}
