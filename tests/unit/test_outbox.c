/* The queue with sinks that do what the test says. */
#include "batches.h"
#include "uploader/outbox.h"

/* Takes, fails or refuses as `answer` says, `delay_ms` after the send; with a handle, as remote
 * sinks have. */
struct fake {
    struct sink base;
    uv_timer_t timer;
    enum sink_verdict answer;
    uint64_t delay_ms;
    bool hangs; /* until hurry() */
    bool sending;
    struct batch *batch;
    uint64_t seqs[64];
    unsigned n_seqs;
    unsigned tries;
    void (*closed)(void *arg);
    void *closed_arg;
};

static void on_fake_timer(uv_timer_t *t) {
    struct fake *f = container_of(t, struct fake, timer);
    struct sink_result r = {.verdict = f->answer, .error = f->answer == SINK_TAKEN ? NULL : "fake"};

    assert_true(f->sending);
    f->sending = false;
    if (f->answer == SINK_TAKEN && f->n_seqs < 64)
        f->seqs[f->n_seqs++] = f->batch->seq;
    f->base.done(f->base.done_arg, &r);
}

static int fake_start(struct sink *s) {
    (void)s;
    return 0;
}

static void fake_send(struct sink *s, struct batch *b) {
    struct fake *f = container_of(s, struct fake, base);

    assert_false(f->sending);
    f->sending = true;
    f->tries++;
    f->batch = b;
    if (!f->hangs)
        (void)uv_timer_start(&f->timer, on_fake_timer, f->delay_ms, 0);
}

static void fake_hurry(struct sink *s) {
    struct fake *f = container_of(s, struct fake, base);

    f->answer = SINK_RETRY;
    (void)uv_timer_start(&f->timer, on_fake_timer, 0, 0);
}

static void on_fake_closed(uv_handle_t *h) {
    struct fake *f = container_of((uv_timer_t *)h, struct fake, timer);

    f->closed(f->closed_arg);
}

static void fake_close(struct sink *s, void (*closed)(void *arg), void *arg) {
    struct fake *f = container_of(s, struct fake, base);

    assert_false(f->sending);
    f->closed = closed;
    f->closed_arg = arg;
    uv_close((uv_handle_t *)&f->timer, on_fake_closed);
}

static void fake_free(struct sink *s) {
    mem_free(s->name);
}

static const struct sink_ops fake_ops = {.retry_min_ms = 5,
                                         .retry_max_ms = 10,
                                         .start = fake_start,
                                         .send = fake_send,
                                         .hurry = fake_hurry,
                                         .close = fake_close,
                                         .free = fake_free};

struct bed {
    uv_loop_t loop;
    struct outbox *o;
    struct fake fakes[2];
    uint64_t kept[4096];
    int rcs[4096];
    unsigned n_kept;
    unsigned want; /* `reached` when so many are kept */
    bool reached, closed;
    unsigned empties;
    bool in_call; /* a call into the outbox is under way */
};

static void on_kept(void *arg, uint64_t seq, int rc) {
    struct bed *b = arg;

    assert_false(b->in_call);
    assert_true(b->n_kept < 4096);
    b->kept[b->n_kept] = seq;
    b->rcs[b->n_kept++] = rc;
    if (b->n_kept == b->want)
        b->reached = true;
}

static void on_empty(void *arg) {
    ((struct bed *)arg)->empties++;
}

static void on_closed(void *arg) {
    struct bed *b = arg;

    assert_false(b->in_call);
    b->closed = true;
}

static void bed_new(struct bed *b, unsigned n) {
    struct sink *sinks[2];

    memset(b, 0, sizeof(*b));
    assert_int_equal(uv_loop_init(&b->loop), 0);
    for (unsigned i = 0; i < n; i++) {
        b->fakes[i].base.ops = &fake_ops;
        b->fakes[i].base.name = mem_strdup(i == 0 ? "one" : "two");
        (void)uv_timer_init(&b->loop, &b->fakes[i].timer);
        sinks[i] = &b->fakes[i].base;
    }
    assert_int_equal(outbox_new(&b->o, &b->loop, sinks, n, on_kept, on_empty, b), 0);
    assert_int_equal(outbox_start(b->o), 0);
}

static void put(struct bed *b, uint64_t seq, struct batch *batch, int rc) {
    struct parcel *p;

    assert_int_equal(parcel_new(&p, seq), 0);
    assert_int_equal(parcel_seq(p), seq);
    b->in_call = true;
    outbox_put(b->o, p, batch, rc);
    b->in_call = false;
}

static void bed_close(struct bed *b) {
    b->in_call = true;
    outbox_close(b->o, on_closed, b);
    b->in_call = false;
    assert_true(run_until(&b->loop, &b->closed));
    assert_int_equal(uv_loop_close(&b->loop), 0);
    assert_int_equal(mem_live(), 0);
}

static void wait_kept(struct bed *b, unsigned n) {
    b->want = n;
    b->reached = b->n_kept >= n;
    assert_true(run_until(&b->loop, &b->reached));
}

static void in_order(const struct bed *b) {
    for (unsigned i = 0; i < b->n_kept; i++)
        assert_int_equal(b->kept[i], i + 1);
}

static void test_order_slow_beside_fast(void **state) {
    struct bed *b = malloc(sizeof(*b));
    (void)state;

    bed_new(b, 2);
    b->fakes[1].delay_ms = 5;
    for (uint64_t seq = 1; seq <= 20; seq++)
        put(b, seq, make_batch(seq, 1, false), 0);
    while (b->fakes[0].n_seqs < 20) /* the fast one has all before the slow one is through */
        (void)uv_run(&b->loop, UV_RUN_ONCE);
    assert_true(b->fakes[1].n_seqs < 20);
    wait_kept(b, 20);
    in_order(b);
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(b->rcs[i], 0);
        assert_int_equal(b->fakes[0].seqs[i], i + 1);
        assert_int_equal(b->fakes[1].seqs[i], i + 1);
    }
    assert_true(outbox_is_empty(b->o));
    assert_int_equal(b->empties, 1);
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
    while (b->fakes[0].tries < 4)
        (void)uv_run(&b->loop, UV_RUN_ONCE);
    buf_init(&out, 4096);
    outbox_status(b->o, &out);
    assert_non_null(strstr(out.data, "\"sink\":\"one\",\"state\":\"failing\",\"backlog\":2,"));
    assert_non_null(strstr(out.data, "\"sent\":0,\"dropped\":0,\"last_success\":null,"
                                     "\"last_error\":\"fake\"}]"));
    b->fakes[0].answer = SINK_TAKEN;
    wait_kept(b, 2);
    in_order(b);
    buf_reset(&out);
    outbox_status(b->o, &out);
    assert_non_null(
        strstr(out.data, "\"state\":\"ok\",\"backlog\":0,\"backlog_bytes\":0,\"sent\":2,"));
    assert_null(strstr(out.data, "\"last_success\":null"));
    buf_clear(&out);
    bed_close(b);
    free(b);
}

static void test_refused_goes_on(void **state) {
    struct bed *b = malloc(sizeof(*b));
    (void)state;

    bed_new(b, 2);
    b->fakes[0].answer = SINK_REFUSED;
    put(b, 1, make_batch(1, 1, false), 0);
    wait_kept(b, 1);
    b->fakes[0].answer = SINK_TAKEN;
    put(b, 2, make_batch(2, 1, false), 0);
    wait_kept(b, 2);
    assert_int_equal(b->rcs[0], -EBADMSG);
    assert_int_equal(b->rcs[1], 0);
    assert_int_equal(b->fakes[1].n_seqs, 2);
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
    assert_int_equal(b->fakes[0].n_seqs, 1);
    bed_close(b);
    free(b);
}

/* P26: one sink hangs, the other is fine: bounded, oldest dropped, the newest kept, all reported
 * once and in order. */
static void test_P26_cap(void **state) {
    struct bed *b = malloc(sizeof(*b));
    uint64_t before = counter_get(COUNTER_BATCHES_DROPPED);
    unsigned total = 0, dropped = 0;
    struct buf out;
    size_t len = 0;
    (void)state;

    bed_new(b, 2);
    b->fakes[0].hangs = true;
    for (uint64_t seq = 1; total < 3 * LIMIT_BACKLOG_BYTES; seq++) {
        struct batch *batch = make_batch(seq, 20, true);
        char *p;

        len = batch->len;
        total += (unsigned)len;
        put(b, seq, batch, 0);
        (void)uv_run(&b->loop, UV_RUN_NOWAIT);
        buf_init(&out, 8192);
        outbox_status(b->o, &out);
        p = strstr(out.data, "backlog_bytes\":") + strlen("backlog_bytes\":");
        assert_true(strtoul(p, NULL, 10) <= LIMIT_BACKLOG_BYTES + 2 * len);
        buf_clear(&out);
        b->want = (unsigned)seq;
    }
    assert_int_equal(b->n_kept, 0); /* the first is still on its way: nothing may overtake it */
    assert_true(counter_get(COUNTER_BATCHES_DROPPED) > before);
    b->fakes[0].hangs = false;
    on_fake_timer(&b->fakes[0].timer);
    wait_kept(b, b->want);
    in_order(b);
    assert_int_equal(b->rcs[0], 0);
    assert_int_equal(b->rcs[1], -ENOBUFS);
    assert_int_equal(b->rcs[b->n_kept - 1], 0);
    for (unsigned i = 0; i < b->n_kept; i++)
        dropped += b->rcs[i] == -ENOBUFS;
    assert_int_equal(counter_get(COUNTER_BATCHES_DROPPED) - before, dropped);
    bed_close(b);
    free(b);
}

/* The same with a sink that fails: there nothing is held but what waits. */
static void test_P26_cap_failing(void **state) {
    struct bed *b = malloc(sizeof(*b));
    unsigned n = 0;
    (void)state;

    bed_new(b, 1);
    b->fakes[0].answer = SINK_RETRY;
    for (size_t total = 0; total < 2 * (size_t)LIMIT_BACKLOG_BYTES;) {
        struct batch *batch = make_batch(++n, 20, true);

        total += batch->len;
        put(b, n, batch, 0);
        (void)uv_run(&b->loop, UV_RUN_NOWAIT);
    }
    assert_true(b->n_kept > n / 3);
    in_order(b);
    b->fakes[0].answer = SINK_TAKEN;
    wait_kept(b, n);
    in_order(b);
    assert_int_equal(b->fakes[0].seqs[b->fakes[0].n_seqs < 64 ? b->fakes[0].n_seqs - 1 : 63] > 0,
                     1);
    bed_close(b);
    free(b);
}

static void test_close_with_hanging_sink(void **state) {
    struct bed *b = malloc(sizeof(*b));
    (void)state;

    bed_new(b, 2);
    b->fakes[0].hangs = true;
    for (uint64_t seq = 1; seq <= 3; seq++)
        put(b, seq, make_batch(seq, 1, false), 0);
    while (b->fakes[1].n_seqs < 3)
        (void)uv_run(&b->loop, UV_RUN_ONCE);
    bed_close(b);
    assert_int_equal(b->n_kept, 3);
    in_order(b);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(b->rcs[i], -ECANCELED);
    free(b);
}

static void test_close_while_waiting(void **state) {
    struct bed *b = malloc(sizeof(*b));
    (void)state;

    bed_new(b, 1);
    b->fakes[0].answer = SINK_RETRY;
    put(b, 1, make_batch(1, 1, false), 0);
    while (b->fakes[0].tries < 2)
        (void)uv_run(&b->loop, UV_RUN_ONCE);
    bed_close(b);
    assert_int_equal(b->rcs[0], -ECANCELED);
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
    while (b->fakes[0].sending)
        (void)uv_run(&b->loop, UV_RUN_NOWAIT);
    assert_int_equal(b->fakes[0].tries, 1);
    b->fakes[0].answer = SINK_TAKEN;
    outbox_hurry(b->o);
    wait_kept(b, 1);
    assert_int_equal(b->rcs[0], 0);
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
    assert_int_equal(outbox_new(&o, &loop, NULL, 0, on_kept, on_empty, NULL), -ENOMEM);
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
        cmocka_unit_test(test_refused_goes_on),
        cmocka_unit_test(test_put_with_error),
        cmocka_unit_test(test_P26_cap),
        cmocka_unit_test(test_P26_cap_failing),
        cmocka_unit_test(test_close_with_hanging_sink),
        cmocka_unit_test(test_close_while_waiting),
        cmocka_unit_test(test_hurry),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
