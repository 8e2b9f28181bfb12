/* P30: a broker that is bad in every way that one can be; a real one is in tests/services/notify.test.js. */
#include "notify_bed.h"

#include "fake_broker.h"

static void open_fake(const enum fake *script, bool tls) {
    char list[128];

    bed_make_dir();
    fake_start(script);
    (void)snprintf(list, sizeof(list), "amqp%s://me:hidden@127.0.0.1:%u/?routing_key=q",
                   tls ? "s" : "", (unsigned)fake.port);
    bed_open(list);
}

/* Closing never waits for a broker; what was not confirmed is still there. */
static void close_fake(int files) {
    uint64_t took = bed_close();

    assert_true(took < 3000); /* 2 s, and a machine that is busy */
    fake_stop();
    assert_int_equal(bed_files(NULL), files);
    assert_int_equal(bed_remove(bed.dir), 0);
}

static void test_delivered(void **state) {
    static const enum fake script[] = {FAKE_ACK, FAKE_END};
    uint64_t sent = counter_get(COUNTER_NOTIFY_SENT);
    (void)state;

    open_fake(script, false);
    bed_send("one", "{\"n\":1}");
    bed_send("one", "{\"n\":1}");
    bed_send("two", "{\"n\":2}");
    BED_UNTIL(notify_backlog(bed.notify) == 0 && bed.kept == 3);
    assert_int_equal(fake.connections, 1);
    assert_int_equal(fake.messages, 2);
    assert_string_equal(fake.body, "{\"n\":2}");
    assert_non_null(memmem(fake.header, fake.header_len, "\x03two", 4));
    assert_non_null(memmem(fake.header, fake.header_len,
                           "\x10"
                           "application/json\x02",
                           18));
    assert_non_null(memmem(fake.header, fake.header_len, "\x04shop", 5));
    assert_int_equal(counter_get(COUNTER_NOTIFY_SENT), sent + 2);
    assert_true(BED_STATE(0, "up"));
    assert_string_equal(bed_status(0, "sent"), "2");
    assert_null(strstr(bed_status(0, "target"), "hidden"));
    close_fake(0);
}

/* Each failure is seen, and the message comes a second time under the same id. */
static void again(enum fake bad, const char *error, int messages) {
    const enum fake script[] = {bad, FAKE_ACK, FAKE_END};
    uint64_t failed = counter_get(COUNTER_NOTIFY_FAILED);

    open_fake(script, false);
    bed_send("one", "{}");
    BED_UNTIL(notify_backlog(bed.notify) == 0);
    assert_int_equal(fake.messages, messages);
    assert_non_null(memmem(fake.header, fake.header_len, "\x03one", 4));
    assert_int_equal(counter_get(COUNTER_NOTIFY_FAILED), failed + 1);
    assert_non_null(strstr(bed_status(0, "last_error"), error));
    assert_true(bed.ticks > 0 && bed.late * 20 <= bed.ticks);
    close_fake(0);
}

static void test_cut(void **state) {
    (void)state;
    again(FAKE_CUT, "the connection is lost", 2);
}

static void test_nack(void **state) {
    (void)state;
    again(FAKE_NACK, "nack", 2);
}

static void test_garbage(void **state) {
    (void)state;
    again(FAKE_GARBAGE, "no login", 1);
    again(FAKE_HUGE, "no login", 1);
    again(FAKE_NOISE, "the connection is lost", 2);
}

/* What waits for somebody to change something is tried again after half a minute at the earliest; here it is enough that it is seen. */
static void seen(enum fake bad, const char *error) {
    const enum fake script[] = {bad, FAKE_END};

    open_fake(script, false);
    bed_send("one", "{}");
    BED_UNTIL(BED_STATE(0, "failing"));
    assert_non_null(strstr(bed_status(0, "last_error"), error));
    assert_null(strstr(bed_status(0, "last_error"), "hidden"));
    assert_string_equal(bed_status(0, "backlog"), "1");
    assert_string_equal(bed_status(0, "sent"), "0");
    close_fake(1);
}

static void test_settle(void **state) {
    uint64_t returned = counter_get(COUNTER_NOTIFY_RETURNED);
    (void)state;

    seen(FAKE_RETURNED, "no queue wants it (312 NO_ROUTE)");
    assert_int_equal(counter_get(COUNTER_NOTIFY_RETURNED), returned + 1);
    seen(FAKE_REFUSED, "ACCESS_REFUSED");
    seen(FAKE_CLOSED, "404: NOT_FOUND");
}

static void test_blocked(void **state) {
    static const enum fake script[] = {FAKE_BLOCKED, FAKE_END};
    (void)state;

    open_fake(script, false);
    bed_send("one", "{}");
    BED_UNTIL(BED_STATE(0, "blocked"));
    assert_non_null(strstr(bed_status(0, "last_error"), "low on memory"));
    fake.released = true;
    BED_UNTIL(notify_backlog(bed.notify) == 0);
    assert_int_equal(fake.messages, 1);
    assert_true(BED_STATE(0, "up"));
    close_fake(0);
}

/* While it hangs, wherever that is, we close. */
static void closed_during(enum fake bad, bool tls, bool message) {
    const enum fake script[] = {bad, FAKE_END};

    open_fake(script, tls);
    bed_send("one", "{}");
    BED_UNTIL(bed.kept == 1 && fake.connections == 1 && (!message || fake.messages == 1));
    close_fake(1);
}

static void test_closed_hanging(void **state) {
    (void)state;
    closed_during(FAKE_SILENT, false, false);
    closed_during(FAKE_SILENT, true, false);
    closed_during(FAKE_MUTE, false, true);
    closed_during(FAKE_BLOCKED, false, true);
}

static void test_refused(void **state) {
    static const enum fake script[] = {FAKE_ACK, FAKE_END};
    uint16_t port;
    char list[128];
    (void)state;

    bed_make_dir();
    fake_start(script);
    port = fake.port;
    fake_stop();
    (void)snprintf(list, sizeof(list), "amqp://127.0.0.1:%u/?routing_key=q", (unsigned)port);
    bed_open(list);
    bed_send("one", "{}");
    BED_UNTIL(BED_STATE(0, "failing"));
    assert_non_null(strstr(bed_status(0, "last_error"), "refuses the connection"));
    (void)bed_close();
    assert_int_equal(bed_remove(bed.dir), 0);
}

/* A broker that is away holds up no other; and what it had not had, it has after a restart. */
static void test_two_and_restart(void **state) {
    static const enum fake silent[] = {FAKE_SILENT, FAKE_END}, good[] = {FAKE_ACK, FAKE_END};
    char both[256], name[NAME_MAX + 1] = "";
    uint16_t bad_port;
    int bad_fd;
    (void)state;

    bed_make_dir();
    fake_start(silent); /* its listening socket stays, and nobody accepts */
    bad_port = fake.port;
    bad_fd = dup(fake.fd);
    fake_stop();
    fake_start(good);
    (void)snprintf(both, sizeof(both),
                   "amqp://127.0.0.1:%u/?routing_key=q, amqp://127.0.0.1:%u/?routing_key=q",
                   (unsigned)bad_port, (unsigned)fake.port);
    bed_open(both);
    bed_send("one", "{\"n\":1}");
    bed_send("two", "{\"n\":2}");
    BED_UNTIL(strcmp(bed_status(1, "sent"), "2") == 0);
    assert_string_equal(bed_status(0, "backlog"), "2");
    (void)bed_close();
    fake_stop();
    assert_int_equal(bed_files(name), 2);
    assert_non_null(strstr(name, "-01-")); /* the first target alone */

    close(bad_fd);
    fake_start(good);
    (void)snprintf(both, sizeof(both), "amqp://127.0.0.1:%u/?routing_key=q", (unsigned)fake.port);
    bed_open(both); /* another address: somebody had it already, so nobody else is told */
    BED_UNTIL(fake.connections == 1);
    assert_int_equal(notify_backlog(bed.notify), 0);
    close_fake(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delivered),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_nack),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_settle),
        cmocka_unit_test(test_blocked),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_closed_hanging),
        cmocka_unit_test(test_two_and_restart),
    };

    return cmocka_run_group_tests_name("notify_amqp", tests, NULL, NULL);
}
