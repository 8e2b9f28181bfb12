/* When a helper speaks to the registry: rules one by one, and a thousand helpers at once, simulated without a clock (P40, P43, P45). */
#include "uploader/registry/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/base/mem.h"

#define HELPERS 1000
#define SECOND  1000u
#define MINUTE  60000u

/* --- one helper, a scripted registry --- */

struct world {
    struct schedule s;
    uint64_t now, until;
    uint64_t latency_ms;
    enum schedule_answer (*answer)(struct world *w, enum schedule_action action);
    unsigned registers, passes;        /* that were sent */
    uint64_t last_register, least_gap; /* between two registrations that arrived */
    uint64_t last_pass, pass_least, pass_most;
    uint64_t phase; /* of the script */
};

static void world_init(struct world *w, const struct schedule_rules *rules, const char *instance,
                       enum schedule_answer (*answer)(struct world *, enum schedule_action)) {
    *w = (struct world){
        .answer = answer, .latency_ms = 5, .least_gap = UINT64_MAX, .pass_least = UINT64_MAX};
    schedule_begin(&w->s, rules, schedule_key("shop", instance), 0);
}

static void note(struct world *w, enum schedule_action action, enum schedule_answer answer) {
    if (action == SCHEDULE_REGISTER) {
        w->registers++;
        if (answer == SCHEDULE_UNREACHED)
            return;
        if (w->last_register != 0 && w->now - w->last_register < w->least_gap)
            w->least_gap = w->now - w->last_register;
        w->last_register = w->now;
        return;
    }
    if (w->last_pass != 0) {
        uint64_t gap = w->now - w->last_pass;

        w->pass_least = gap < w->pass_least ? gap : w->pass_least;
        w->pass_most = gap > w->pass_most ? gap : w->pass_most;
    }
    w->passes++;
    w->last_pass = w->now;
}

/* Runs until `until`; calls `each` for whatever is sent. */
static void run(struct world *w, uint64_t until,
                void (*each)(void *arg, uint64_t at, enum schedule_action action), void *arg) {
    enum schedule_action action;
    uint64_t at;

    while ((at = schedule_next(&w->s, w->now, &action)) < until) {
        enum schedule_answer answer;

        w->now = at > w->now ? at : w->now;
        schedule_sent(&w->s, action, w->now);
        answer = w->answer(w, action);
        note(w, action, answer);
        if (each != NULL)
            each(arg, w->now, action);
        w->now += w->latency_ms;
        schedule_answered(&w->s, action, answer, w->now);
    }
    w->now = until > w->now ? until : w->now;
}

static enum schedule_answer always(struct world *w, enum schedule_action action) {
    (void)w, (void)action;
    return SCHEDULE_DONE;
}

static enum schedule_answer refuses(struct world *w, enum schedule_action action) {
    (void)w, (void)action;
    return SCHEDULE_REFUSED;
}

static enum schedule_answer gone(struct world *w, enum schedule_action action) {
    (void)w, (void)action;
    return SCHEDULE_UNREACHED;
}

static enum schedule_answer silent(struct world *w, enum schedule_action action) {
    (void)w, (void)action;
    return SCHEDULE_SILENT;
}

/* Takes every registration and never knows us: the worst of all. */
static enum schedule_answer amnesia(struct world *w, enum schedule_action action) {
    (void)w;
    return action == SCHEDULE_PASS ? SCHEDULE_FORGOTTEN : SCHEDULE_DONE;
}

/* --- rules --- */

static void test_first_comes_in_its_place(void **state) {
    enum schedule_action action;
    struct schedule s;
    uint64_t key = schedule_key("shop", "web-1");

    (void)state;
    schedule_begin(&s, &schedule_consul, key, 5000);
    assert_int_equal(schedule_next(&s, 5000, &action),
                     5000 + schedule_spread(key, "registration", SCHEDULE_SPREAD_MS));
    assert_int_equal(action, SCHEDULE_REGISTER);
    assert_int_equal(schedule_key("shop", "web-1"), key);
    assert_int_not_equal(schedule_key("shopweb", "-1"), key);
    assert_int_equal(schedule_spread(key, "x", 0), 0);
}

static void test_passes_are_regular(void **state) {
    struct world w;

    (void)state;
    world_init(&w, &schedule_consul, "web-1", always);
    run(&w, 600 * SECOND, NULL, NULL);
    assert_int_equal(w.registers, 1);
    assert_in_range(w.pass_least, 9000, 9800);
    assert_in_range(w.pass_most, 9000, 9800);
    assert_true(w.pass_most > w.pass_least);
    world_init(&w, &schedule_eureka, "web-1", always);
    run(&w, 600 * SECOND, NULL, NULL);
    assert_int_equal(w.registers, 1);
    assert_int_equal(w.pass_least, 30000); /* exactly: see promise P43 */
    assert_int_equal(w.pass_most, 30000);
}

/* P40: an answer that takes 12 s leaves no gap of 30 s, which is the TTL. */
static void test_slow_registry_keeps_us(void **state) {
    struct world w;

    (void)state;
    world_init(&w, &schedule_consul, "web-1", always);
    w.latency_ms = 12000;
    run(&w, 600 * SECOND, NULL, NULL);
    assert_int_equal(w.registers, 1);
    assert_int_equal(w.pass_most, 12000);
}

/* P40: one registration a minute at most while it fails, whatever the way in which it does. */
static void test_p40_failing_registrations_are_a_minute_apart(void **state) {
    struct world w;

    (void)state;
    world_init(&w, &schedule_consul, "web-1", refuses);
    run(&w, 120 * MINUTE, NULL, NULL);
    assert_in_range(w.registers, 100, 121);
    assert_true(w.least_gap >= MINUTE);
    assert_int_equal(w.passes, 0); /* there is nothing to keep alive */
    world_init(&w, &schedule_consul, "web-1", silent);
    run(&w, 120 * MINUTE, NULL, NULL);
    assert_in_range(w.registers, 100, 121);
    assert_true(w.least_gap >= MINUTE);
    world_init(&w, &schedule_consul, "web-1", amnesia);
    run(&w, 120 * MINUTE, NULL, NULL);
    assert_in_range(w.registers, 100, 124); /* three at once, then one a minute */
}

/* Gone for two hours: it is looked for every few seconds, and found at once. */
static void test_p40_gone_for_two_hours_at_start(void **state) {
    struct world w;
    uint64_t back = 120 * MINUTE;

    (void)state;
    world_init(&w, &schedule_consul, "web-1", gone);
    run(&w, back, NULL, NULL);
    assert_false(w.s.registered);
    assert_in_range(w.registers, 900, 1900); /* attempts to connect; none arrived */
    w.answer = always;
    w.last_register = 0;
    run(&w, back + 20 * SECOND, NULL, NULL);
    assert_true(w.s.registered);
    assert_true(w.last_register - back <= 8 * SECOND);
}

static enum schedule_answer wiped_once(struct world *w, enum schedule_action action) {
    if (action == SCHEDULE_REGISTER)
        w->phase = 2; /* known again */
    return action == SCHEDULE_PASS && w->phase == 1 ? SCHEDULE_FORGOTTEN : SCHEDULE_DONE;
}

/* P40: empty disk. Whenever it happens, there is a registration within 10 s. */
static void test_p40_forgotten_is_registered_in_10_s(void **state) {
    uint64_t worst = 0;

    (void)state;
    for (uint64_t t = 61; t < 160; t++) {
        struct world w;
        uint64_t wiped = t * SECOND + 137 * (t % 7);

        world_init(&w, &schedule_consul, "web-1", wiped_once);
        run(&w, wiped, NULL, NULL);
        assert_true(w.s.registered);
        w.phase = 1;
        run(&w, wiped + 20 * SECOND, NULL, NULL);
        assert_int_equal(w.registers, 2);
        if (w.last_register - wiped > worst)
            worst = w.last_register - wiped;
    }
    print_message("registered again %.1f s after the registry lost everything, at worst\n",
                  (double)worst / 1000);
    assert_true(worst <= 10 * SECOND);
}

/* Twice within a minute of the start: the bucket has room for it. */
static void test_forgotten_soon_after_the_start(void **state) {
    struct world w;
    uint64_t at;

    (void)state;
    world_init(&w, &schedule_consul, "web-1", wiped_once);
    run(&w, 31 * SECOND, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        at = w.now;
        w.phase = 1;
        run(&w, at + 10 * SECOND, NULL, NULL);
        assert_int_equal(w.phase, 2);
        assert_int_equal(w.registers, 2 + i);
    }
}

/* Eureka: the tick that is answered with 404 is followed by the registration at once. */
static void test_p43_404_registers_in_the_same_tick(void **state) {
    enum schedule_action action;
    struct world w;

    (void)state;
    world_init(&w, &schedule_eureka, "web-1", wiped_once);
    run(&w, 200 * SECOND, NULL, NULL);
    w.now = schedule_next(&w.s, w.now, &action);
    assert_int_equal(action, SCHEDULE_PASS);
    schedule_sent(&w.s, action, w.now);
    schedule_answered(&w.s, action, SCHEDULE_FORGOTTEN, w.now + 3);
    assert_int_equal(schedule_next(&w.s, w.now + 3, &action), w.now + 3);
    assert_int_equal(action, SCHEDULE_REGISTER);
}

/* A pass that is refused (a revoked token) makes no registration; one that is taken again is all that was missing. */
static void test_refused_pass_does_not_register(void **state) {
    struct world w;

    (void)state;
    world_init(&w, &schedule_consul, "web-1", always);
    run(&w, 60 * SECOND, NULL, NULL);
    w.answer = refuses;
    run(&w, 600 * SECOND, NULL, NULL);
    assert_int_equal(w.registers, 1);
    assert_true(w.passes > 50);
    w.answer = always;
    run(&w, 620 * SECOND, NULL, NULL);
    assert_int_equal(w.registers, 1);
    assert_true(w.s.registered);
}

/* What changes is registered again a minute after the last time at the earliest, and then at once. */
static void test_changes_once_a_minute(void **state) {
    struct world w;

    (void)state;
    world_init(&w, &schedule_consul, "web-1", always);
    run(&w, 31 * SECOND, NULL, NULL);
    for (unsigned t = 31; t < 31 + 600; t++) {
        schedule_changed(&w.s);
        run(&w, (t + 1) * SECOND, NULL, NULL);
    }
    assert_in_range(w.registers, 10, 12);
    assert_true(w.least_gap >= MINUTE);
    run(&w, w.now + 300 * SECOND, NULL, NULL);
    schedule_changed(&w.s);
    w.least_gap = UINT64_MAX;
    w.registers = 0;
    run(&w, w.now + 1, NULL, NULL);
    assert_int_equal(w.registers, 1);
}

/* What changes while a registration is on its way is not in it. */
static void test_change_under_way_is_not_lost(void **state) {
    enum schedule_action action;
    struct schedule s;
    uint64_t at;

    (void)state;
    schedule_begin(&s, &schedule_consul, 1, 0);
    at = schedule_next(&s, 0, &action);
    schedule_sent(&s, action, at);
    schedule_changed(&s);
    schedule_answered(&s, action, SCHEDULE_DONE, at + 10);
    assert_true(s.changed);
    /* passes go on meanwhile */
    assert_in_range(schedule_next(&s, at + 10, &action), at + 9000, at + 9800);
    assert_int_equal(action, SCHEDULE_PASS);
}

/* It seemed to fail and had arrived: the first pass that is taken shows it. */
static void test_silent_registration_may_have_arrived(void **state) {
    enum schedule_action action;
    struct schedule s;
    uint64_t at;

    (void)state;
    schedule_begin(&s, &schedule_consul, 1, 0);
    at = schedule_next(&s, 0, &action);
    schedule_sent(&s, action, at);
    schedule_answered(&s, action, SCHEDULE_SILENT, at + 15000);
    at = schedule_next(&s, at + 15000, &action);
    assert_int_equal(action, SCHEDULE_PASS);
    schedule_sent(&s, action, at);
    schedule_answered(&s, action, SCHEDULE_DONE, at + 1);
    assert_true(s.registered);
}

static void test_backoff_and_bucket(void **state) {
    struct schedule_bucket b = {15000, 2, 0};
    struct schedule_random r = {7};
    uint64_t now = 0, taken = 0;

    (void)state;
    for (unsigned n = 1; n < 40; n++) {
        uint64_t most = n < 4 ? 1000u << (n - 1) : 8000;

        assert_in_range(schedule_backoff(&r, n, 1000, 8000), most / 2, most);
    }
    for (; now < 600 * SECOND; now += 10) {
        if (schedule_bucket_at(&b, now) > now)
            continue;
        schedule_bucket_take(&b, now);
        taken++;
    }
    assert_int_equal(taken, 41); /* four a minute, and one more at the begin */
}

/* --- a thousand --- */

static void name(char out[64], int scheme, int i) {
    unsigned h = (unsigned)i * 2654435761u;

    if (scheme == 0)
        (void)snprintf(out, 64, "web-%d", i); /* a stateful set */
    else if (scheme == 1)
        (void)snprintf(out, 64, "shop-7d9f8c6b5-%05x", h & 0xfffff); /* a deployment */
    else
        (void)snprintf(out, 64, "%08x%04x", h, (h >> 7) & 0xffff); /* a container's id */
}

static unsigned fullest(const unsigned *seconds, unsigned n, unsigned *ret_least) {
    unsigned most = 0;

    *ret_least = UINT32_MAX;
    for (unsigned i = 0; i < n; i++) {
        most = seconds[i] > most ? seconds[i] : most;
        *ret_least = seconds[i] < *ret_least ? seconds[i] : *ret_least;
    }
    return most;
}

/* P45: first registration and first delivery of 1,000 containers that start in the same second. 33 a second would be even. */
static void test_p45_thousand_starts_are_spread(void **state) {
    static const char *const occasions[] = {"registration", "delivery"};
    static const char *const schemes[] = {"web-N", "replica set", "container id"};
    char instance[64];

    (void)state;
    for (int scheme = 0; scheme < 3; scheme++) {
        for (size_t o = 0; o < ARRAY_LEN(occasions); o++) {
            unsigned seconds[SCHEDULE_SPREAD_MS / SECOND] = {0}, least, most;

            for (int i = 0; i < HELPERS; i++) {
                name(instance, scheme, i);
                seconds[schedule_spread(schedule_key("shop", instance), occasions[o],
                                        SCHEDULE_SPREAD_MS) /
                        SECOND]++;
            }
            most = fullest(seconds, ARRAY_LEN(seconds), &least);
            print_message("first %-12s of 1000 (%s): %u to %u in a second of 30\n", occasions[o],
                          schemes[scheme], least, most);
            assert_true(most <= HELPERS * 6 / 100);
            assert_true(least > 0);
        }
    }
}

/* Registration and delivery of one container do not fall together. */
static void test_p45_occasions_are_independent(void **state) {
    unsigned together = 0;
    char instance[64];

    (void)state;
    for (int i = 0; i < HELPERS; i++) {
        uint64_t key, a, b;

        name(instance, 0, i);
        key = schedule_key("shop", instance);
        a = schedule_spread(key, "registration", SCHEDULE_SPREAD_MS);
        b = schedule_spread(key, "delivery", SCHEDULE_SPREAD_MS);
        together += (a > b ? a - b : b - a) < SECOND;
    }
    assert_in_range(together, 30, 110); /* 66 expected */
}

struct crowd {
    unsigned registers[700], passes[700];
};

static void count(void *arg, uint64_t at, enum schedule_action action) {
    struct crowd *c = arg;

    if (at / SECOND < 700)
        (action == SCHEDULE_REGISTER ? c->registers : c->passes)[at / SECOND]++;
}

static enum schedule_answer restarted(struct world *w, enum schedule_action action) {
    if (w->now >= 300 * SECOND && w->now < 302 * SECOND)
        return SCHEDULE_UNREACHED; /* while it restarts */
    if (action == SCHEDULE_REGISTER)
        w->phase = w->now >= 302 * SECOND;
    return action == SCHEDULE_PASS && w->now >= 302 * SECOND && w->phase == 0 ? SCHEDULE_FORGOTTEN
                                                                              : SCHEDULE_DONE;
}

/* P45, P40: 1,000 helpers for ten minutes; after five the registry is away for 2 s and comes back empty. */
static void test_p45_thousand_and_a_restart(void **state) {
    struct crowd *c = mem_calloc(1, sizeof(*c));
    unsigned most, least, again = 0;
    uint64_t worst = 0;
    char instance[64];

    (void)state;
    assert_non_null(c);
    for (int i = 0; i < HELPERS; i++) {
        struct world w;

        name(instance, 1, i);
        world_init(&w, &schedule_consul, instance, restarted);
        run(&w, 600 * SECOND, count, c);
        assert_true(w.s.registered);
        assert_int_equal(w.registers, 2);
        if (w.last_register > 302 * SECOND && w.last_register - 302 * SECOND > worst)
            worst = w.last_register - 302 * SECOND;
    }
    most = fullest(c->passes + 60, 239, &least);
    print_message("passes of 1000: %u to %u a second (106 would be even)\n", least, most);
    assert_in_range(most, 106, 212);
    for (unsigned s = 302; s < 320; s++)
        again += c->registers[s];
    most = fullest(c->registers + 302, 10, &least);
    print_message("after a restart with nothing on its disk: %u registrations in %.1f s, %u in the "
                  "fullest second\n",
                  again, (double)worst / 1000, most);
    assert_int_equal(again, HELPERS);
    assert_true(worst <= 10 * SECOND);
    assert_true(most <= HELPERS / 3);
    mem_free(c);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_comes_in_its_place),
        cmocka_unit_test(test_passes_are_regular),
        cmocka_unit_test(test_slow_registry_keeps_us),
        cmocka_unit_test(test_p40_failing_registrations_are_a_minute_apart),
        cmocka_unit_test(test_p40_gone_for_two_hours_at_start),
        cmocka_unit_test(test_p40_forgotten_is_registered_in_10_s),
        cmocka_unit_test(test_forgotten_soon_after_the_start),
        cmocka_unit_test(test_p43_404_registers_in_the_same_tick),
        cmocka_unit_test(test_refused_pass_does_not_register),
        cmocka_unit_test(test_changes_once_a_minute),
        cmocka_unit_test(test_change_under_way_is_not_lost),
        cmocka_unit_test(test_silent_registration_may_have_arrived),
        cmocka_unit_test(test_backoff_and_bucket),
        cmocka_unit_test(test_p45_thousand_starts_are_spread),
        cmocka_unit_test(test_p45_occasions_are_independent),
        cmocka_unit_test(test_p45_thousand_and_a_restart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
