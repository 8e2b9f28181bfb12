/* The queue with sinks that do what the test says: order, repeats, the end. */
#include "outbox_bed.h"

static void test_order_slow_beside_fast(void **state) {
    struct bed *b = malloc(sizeof(*b));
    (void)state;

    bed_new(b, 2);
    b->fakes[1].delay_ms = 5;
    for (uint64_t seq = 1; seq <= 20; seq++)
        put(b, seq, make_batch(seq, 1, false), 0);
    wait_kept(b, 20); /* whatever the sinks have */
    in_order(b);
    wait_for(b, &b->fakes[0].n_seqs, 20); /* the fast one has all before the slow one is through */
    assert_true(b->fakes[1].n_seqs < 20);
    wait_for(b, &b->empties, 1);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(b->rcs[i], 0);
        assert_int_equal(b->fakes[0].seqs[i], i + 1);
        assert_int_equal(b->fakes[1].seqs[i], i + 1);
    }
    assert_true(outbox_is_empty(b->o));
    assert_int_equal(b->empties, 1);
    assert_true(status_has(b, "\"backlog\":0,\"backlog_bytes\":0,\"lag\":0,\"sent\":20"));
    bed_close(b);
    free(b);
}

static void test_no_sinks(void **state) {
    struct bed *b = malloc(sizeof(*b));
    struct buf out;
    (void)state;

    bed_new(b, 0);
    put(b, 1, NULL, 0);
    put(b, 2, NULL, 0);
    assert_int_equal(b->n_kept, 0);
    wait_kept(b, 2);
    in_order(b);
    assert_int_equal(b->rcs[1], 0);
    buf_init(&out, 4096);
    outbox_status(b->o, &out);
    assert_non_null(strstr(out.data, "[{\"sink\":\"none\",\"state\":\"ok\""));
    buf_clear(&out);
    bed_close(b);
    free(b);
}

static void test_retry_and_back(void **state) {
    struct bed *b = malloc(sizeof(*b));
    struct buf out;
    (void)state;

    bed_new(b, 1);
    b->fakes[0].answer = SINK_RETRY;
    put(b, 1, make_batch(1, 1, false), 0);
    put(b, 2, make_batch(2, 1, false), 0);
    wait_kept(b, 2); /* it is in the spool */
    wait_for(b, &b->fakes[0].tries, 4);
    buf_init(&out, 4096);
    outbox_status(b->o, &out);
    assert_non_null(strstr(out.data, "\"sink\":\"one\",\"state\":\"failing\",\"backlog\":2,"));
    assert_non_null(strstr(out.data, "\"sent\":0,\"dropped\":0,\"last_success\":null,"
                                     "\"last_error\":\"fake\"}]"));
    assert_non_null(strstr(out.data, "\"lag\":0."));
    b->fakes[0].answer = SINK_TAKEN;
    wait_for(b, &b->empties, 1);
    in_order(b);
    buf_reset(&out);
    outbox_status(b->o, &out);
    assert_non_null(strstr(
        out.data, "\"state\":\"ok\",\"backlog\":0,\"backlog_bytes\":0,\"lag\":0,\"sent\":2,"));
    assert_null(strstr(out.data, "\"last_success\":null"));
    buf_clear(&out);
    bed_close(b);
    free(b);
}

/* What came while the sink was away was packed, takes a fraction, and is what it was. */
static void test_P21_packed_while_away(void **state) {
    struct bed *b = malloc(sizeof(*b));
    uint64_t packed = counter_get(COUNTER_SPOOL_PACKED),
             damaged = counter_get(COUNTER_SPOOL_DAMAGED), written;
    uint32_t crcs[40];
    size_t bytes = 0;
    (void)state;

    bed_new(b, 2);
    b->fakes[1].answer = SINK_RETRY;
    for (uint64_t seq = 1; seq <= 10; seq++) { /* one is behind, the other not */
        struct batch *batch = make_batch(seq, 8, false);

        crcs[seq - 1] = text_crc(batch);
        put(b, seq, batch, 0);
        wait_kept(b, (unsigned)seq);
    }
    wait_for(b, &b->fakes[0].n_seqs, 10);
    written = counter_get(COUNTER_SPOOL_BYTES_WRITTEN);
    for (uint64_t seq = 11; seq <= 40; seq++) {
        struct batch *batch = make_batch(seq, 8, false);

        crcs[seq - 1] = text_crc(batch);
        bytes += batch->len;
        put(b, seq, batch, 0);
        wait_kept(b, (unsigned)seq);
    }
    assert_true(counter_get(COUNTER_SPOOL_PACKED) - packed >= 10);
    assert_true(counter_get(COUNTER_SPOOL_BYTES_WRITTEN) - written < bytes);
    b->fakes[1].answer = SINK_TAKEN;
    outbox_hurry(b->o);
    wait_for(b, &b->fakes[1].n_seqs, 40);
    assert_int_equal(b->fakes[0].n_seqs, 40);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned k = 0; k < 40; k++) {
            assert_int_equal(b->fakes[i].seqs[k], k + 1);
            assert_int_equal(b->fakes[i].crcs[k], crcs[k]);
        }
    packed = counter_get(COUNTER_SPOOL_PACKED);
    wait_for(b, &b->empties, 1);
    put(b, 41, make_batch(41, 8, false), 0); /* all are up again: as it is */
    wait_for(b, &b->fakes[1].n_seqs, 41);
    assert_int_equal(counter_get(COUNTER_SPOOL_PACKED), packed);
    assert_int_equal(counter_get(COUNTER_SPOOL_DAMAGED), damaged);
    bed_close(b);
    free(b);
}

static void test_refused_goes_on(void **state) {
    struct bed *b = malloc(sizeof(*b));
    (void)state;

    bed_new(b, 2);
    b->fakes[0].answer = SINK_REFUSED;
    put(b, 1, make_batch(1, 1, false), 0);
    wait_for(b, &b->empties, 1);
    b->fakes[0].answer = SINK_TAKEN;
    put(b, 2, make_batch(2, 1, false), 0);
    wait_for(b, &b->empties, 2);
    assert_int_equal(b->rcs[0], 0);
    assert_int_equal(b->rcs[1], 0);
    assert_int_equal(b->fakes[0].n_seqs, 1);
    assert_int_equal(b->fakes[1].n_seqs, 2);
    assert_true(status_has(b, "\"sent\":1,\"dropped\":1,"));
    bed_close(b);
    free(b);
}

static void test_put_with_error(void **state) {
    struct bed *b = malloc(sizeof(*b));
    (void)state;

    bed_new(b, 1);
    put(b, 1, NULL, -EIO);
    put(b, 2, make_batch(2, 1, false), 0);
    put(b, 3, NULL, -EIO);
    wait_kept(b, 3);
    in_order(b);
    assert_int_equal(b->rcs[0], -EIO);
    assert_int_equal(b->rcs[1], 0);
    assert_int_equal(b->rcs[2], -EIO);
    wait_for(b, &b->fakes[0].n_seqs, 1);
    bed_close(b);
    free(b);
}

static void test_close_while_waiting(void **state) {
    struct bed *b = malloc(sizeof(*b));
    (void)state;

    bed_new(b, 1);
    b->fakes[0].answer = SINK_RETRY;
    put(b, 1, make_batch(1, 1, false), 0);
    wait_for(b, &b->fakes[0].tries, 2);
    bed_close(b);
    assert_int_equal(b->rcs[0], 0);
    free(b);
}

static void test_hurry(void **state) {
    static struct sink_ops slow;
    struct bed *b = malloc(sizeof(*b));
    (void)state;

    bed_new(b, 1);
    slow = fake_ops;
    slow.retry_min_ms = slow.retry_max_ms = 3600000;
    b->fakes[0].base.ops = &slow;
    b->fakes[0].answer = SINK_RETRY;
    put(b, 1, make_batch(1, 1, false), 0);
    wait_for(b, &b->fakes[0].tries, 1);
    while (b->fakes[0].sending)
        (void)uv_run(&b->loop, UV_RUN_NOWAIT);
    assert_int_equal(b->fakes[0].tries, 1);
    b->fakes[0].answer = SINK_TAKEN;
    outbox_hurry(b->o);
    wait_for(b, &b->fakes[0].n_seqs, 1);
    bed_close(b);
    free(b);
}

static void test_no_memory(void **state) {
    struct outbox *o;
    struct parcel *p;
    uv_loop_t loop;
    (void)state;

    assert_int_equal(uv_loop_init(&loop), 0);
    mem_fail_only(1);
    assert_int_equal(outbox_new(&o, &loop, &(struct outbox_options){.boot = TEST_BOOT}, NULL, 0,
                                on_kept, on_empty, NULL, NULL),
                     -ENOMEM);
    mem_fail_only(1);
    assert_int_equal(parcel_new(&p, 1), -ENOMEM);
    assert_int_equal(parcel_new(&p, 1), 0);
    parcel_free(p);
    parcel_free(NULL);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(mem_live(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_slow_beside_fast),
        cmocka_unit_test(test_no_sinks),
        cmocka_unit_test(test_retry_and_back),
        cmocka_unit_test(test_P21_packed_while_away),
        cmocka_unit_test(test_refused_goes_on),
        cmocka_unit_test(test_put_with_error),
        cmocka_unit_test(test_close_while_waiting),
        cmocka_unit_test(test_hurry),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
