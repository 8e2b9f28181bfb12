/* The queue with a disk that is full, read-only or slow to empty, and over the end of a helper. */
#include "outbox_bed.h"

#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>

/* P26: one sink hangs, the other is fine: the spool stays within its limit and one record, the oldest go, everything is
 * kept at once, and what the dead one lost is counted. */
static void test_P26_cap(void **state) {
    struct bed *b = malloc(sizeof(*b));
    char out[32];
    uint64_t seq, got;
    (void)state;

    bed_new(b, 1);
    close_outbox(b);
    b->max_bytes = 1u << 20;
    open_outbox(b, 2);
    b->fakes[0].hangs = true;
    for (seq = 1; seq <= 60; seq++) {
        struct batch *batch = make_batch(seq, 20, true);
        size_t len = batch->len;

        put(b, seq, batch, 0);
        wait_kept(b, (unsigned)seq);
        wait_for(b, &b->fakes[1].n_seqs, (unsigned)seq);
        (void)shell(out, sizeof(out), "du -sb %s | cut -f1", b->spool);
        assert_true(strtoul(out, NULL, 10) <= (1u << 20) + len + 8192);
    }
    in_order(b);
    b->fakes[0].hangs = false;
    on_fake_timer(&b->fakes[0].timer);
    wait_for(b, &b->empties, 1);
    got = b->fakes[0].n_seqs;
    assert_true(got > 5 && got < 40);
    assert_int_equal(b->fakes[0].repeats + b->fakes[1].repeats, 0);
    (void)snprintf(out, sizeof(out), "\"sent\":%" PRIu64 ",\"dropped\":%" PRIu64 ",", got,
                   60 - got);
    assert_true(status_has(b, out));
    bed_close(b);
    free(b);
}

/* P24: a sink hangs until we close; what it did not take is there at the next start, under the same names. */
static void test_P24_close_with_hanging_sink(void **state) {
    struct bed *b = malloc(sizeof(*b));
    (void)state;

    bed_new(b, 2);
    b->fakes[0].hangs = true;
    for (uint64_t seq = 1; seq <= 3; seq++)
        put(b, seq, make_batch(seq, 1, false), 0);
    wait_for(b, &b->fakes[1].n_seqs, 3);
    put(b, 4, make_batch(4, 1, false), 0); /* on its way to the disk when we close */
    close_outbox(b);
    assert_int_equal(b->n_kept, 4);
    in_order(b);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(b->rcs[i], 0);
    open_outbox(b, 2);
    wait_for(b, &b->empties, 1);
    assert_int_equal(b->fakes[0].n_seqs, 4);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(b->fakes[0].seqs[i], i + 1);
    assert_int_equal(b->fakes[1].n_seqs, 1);
    bed_close(b);
    free(b);
}

/* Files may not grow: what the spool does not take goes to the sinks from memory, once; later it works again. */
static void forbid_writes(bool forbid) {
    static struct rlimit old;
    struct rlimit none;

    if (forbid) {
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
        none = (struct rlimit){.rlim_cur = 0, .rlim_max = old.rlim_max};
    }
    assert_int_equal(setrlimit(RLIMIT_FSIZE, forbid ? &none : &old), 0);
}

static void test_P22_from_memory(void **state) {
    struct bed *b = malloc(sizeof(*b));
    (void)state;

    bed_new(b, 2);
    put(b, 1, make_batch(1, 1, false), 0);
    wait_for(b, &b->fakes[0].n_seqs, 1);
    b->fakes[1].hangs = true;
    forbid_writes(true);
    for (uint64_t seq = 2; seq <= 6; seq++)
        put(b, seq, make_batch(seq, 1, false), 0);
    wait_for(b, &b->fakes[0].n_seqs, 6);
    assert_int_equal(b->n_kept,
                     1); /* the second sink does not have them, and neither has the spool */
    assert_true(status_has(b, "{\"state\":\"failing\""));
    forbid_writes(false);
    wait_kept(b, 6); /* within 4 s */
    in_order(b);
    b->fakes[1].hangs = false;
    on_fake_timer(&b->fakes[1].timer);
    wait_for(b, &b->fakes[1].n_seqs, 6);
    wait_for(b, &b->empties, 1);
    assert_int_equal(b->fakes[0].n_seqs, 6);
    assert_int_equal(b->fakes[0].repeats + b->fakes[1].repeats, 0);
    close_outbox(b);
    open_outbox(b, 2);
    put(b, 7, make_batch(7, 1, false), 0);
    wait_for(b, &b->empties, 1);
    assert_int_equal(b->fakes[0].n_seqs + b->fakes[1].n_seqs, 2);
    bed_close(b);
    free(b);
}

/* Neither disk nor sinks: memory is bounded, the newest stay. */
static void test_P22_memory_bounded(void **state) {
    struct bed *b = malloc(sizeof(*b));
    unsigned n = 0, dropped = 0;
    struct buf out;
    (void)state;

    bed_new(b, 1);
    b->fakes[0].answer = SINK_RETRY;
    forbid_writes(true);
    for (size_t total = 0; total < 3 * (size_t)LIMIT_BACKLOG_BYTES;) {
        struct batch *batch = make_batch(++n, 20, true);
        const char *p;

        total += batch->len;
        put(b, n, batch, 0);
        (void)uv_run(&b->loop, UV_RUN_NOWAIT);
        buf_init(&out, 4096);
        outbox_spool_status(b->o, &out);
        p = strstr(out.data, "\"waiting_bytes\":") + strlen("\"waiting_bytes\":");
        assert_true(strtoul(p, NULL, 10) <= LIMIT_BACKLOG_BYTES + 200000);
        buf_clear(&out);
    }
    forbid_writes(false);
    b->fakes[0].answer = SINK_TAKEN;
    wait_kept(b, n);
    in_order(b);
    for (unsigned i = 0; i < n; i++)
        dropped += b->rcs[i] == -ENOBUFS;
    assert_true(dropped > n / 2 && dropped < n);
    assert_int_equal(b->rcs[n - 1], 0);
    wait_for(b, &b->empties, 1);
    assert_int_equal(b->fakes[0].last_seq, n);
    assert_int_equal(b->fakes[0].n_seqs + dropped, n);
    bed_close(b);
    free(b);
}

/* The directory cannot be made at first: live batches go from memory, and the spool is taken into use when it can be. */
static void test_P22_opened_later(void **state) {
    struct bed *b = malloc(sizeof(*b));
    char out[16];
    (void)state;

    bed_new(b, 1);
    put(b, 1, make_batch(1, 1, false), 0);
    wait_for(b, &b->empties, 1);
    if (geteuid() != 0 ||
        shell(out, sizeof(out), "mount -t tmpfs -o ro,size=1m pillion-test %s 2>/dev/null",
              b->dir) != 0) {
        bed_close(b);
        free(b);
        skip(); /* a read-only file system needs mount(2) */
    }
    (void)snprintf(b->spool, sizeof(b->spool), "%s/again", b->dir);
    close_outbox(b);
    open_outbox(b, 1);
    put(b, 2, make_batch(2, 1, false), 0);
    wait_kept(b, 1);
    assert_int_equal(b->fakes[0].n_seqs, 1);
    assert_int_equal(shell(out, sizeof(out), "mount -o remount,rw %s", b->dir), 0);
    b->fakes[0].hangs = true;
    put(b, 3, make_batch(3, 1, false), 0);
    wait_kept(b, 2);
    assert_true(status_has(b, "{\"state\":\"ok\""));
    close_outbox(b);
    (void)shell(out, sizeof(out), "umount %s; rm -rf %s", b->dir, b->dir);
    free(b);
}

/* In the place of the C library's. */
static atomic_int sync_error;

int fdatasync(int fd) {
    if (atomic_load(&sync_error) != 0) {
        errno = atomic_load(&sync_error);
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static void put_next(struct bed *b, unsigned *n) {
    ++*n;
    put(b, *n, make_batch(*n, 1, false), 0);
}

/* fsync fails again and again: written anew each time, nothing lost, nothing twice, and bounded. */
static void test_P22_fsync_fails(void **state) {
    struct bed *b = malloc(sizeof(*b));
    uint64_t before = counter_get(COUNTER_SPOOL_SYNCS_FAILED);
    unsigned n = 0;
    (void)state;

    bed_new(b, 2);
    b->fakes[1].hangs = true;
    while (n < 3)
        put_next(b, &n);
    wait_for(b, &b->fakes[0].n_seqs, 3);
    atomic_store(&sync_error, EIO);
    while (counter_get(COUNTER_SPOOL_SYNCS_FAILED) < before + 2) {
        if (n < 40)
            put_next(b, &n);
        for (int i = 0; i < 20; i++) {
            (void)uv_run(&b->loop, UV_RUN_NOWAIT);
            (void)poll(NULL, 0, 1);
        }
    }
    assert_true(status_has(b, "cannot make the spool durable"));
    atomic_store(&sync_error, 0);
    put_next(b, &n);
    wait_kept(b, n);
    in_order(b);
    wait_for(b, &b->fakes[0].n_seqs, n);
    b->fakes[1].hangs = false;
    on_fake_timer(&b->fakes[1].timer);
    wait_for(b, &b->empties, 1);
    assert_int_equal(b->fakes[0].n_seqs, n);
    assert_int_equal(b->fakes[1].n_seqs, n);
    assert_int_equal(b->fakes[0].repeats + b->fakes[1].repeats, 0);
    close_outbox(b);
    open_outbox(b, 2);
    put(b, n + 1, make_batch(n + 1, 1, false), 0);
    wait_for(b, &b->empties, 1);
    assert_int_equal(b->fakes[0].n_seqs + b->fakes[1].n_seqs, 2);
    bed_close(b);
    free(b);
}

static void note(struct bed *b, uint64_t seq, const char *worker, uint64_t sample) {
    struct parcel *p;

    assert_int_equal(parcel_new(&p, seq), 0);
    for (uint64_t n = 1; n <= sample; n++)
        parcel_note(p, worker, n);
    outbox_put(b->o, p, make_batch(seq, 1, false), 0);
}

static void test_stored(void **state) {
    struct bed *b = malloc(sizeof(*b));
    (void)state;

    bed_new(b, 1);
    note(b, 1, "7:100", 12);
    note(b, 2, "8:100/3", 5);
    wait_kept(b, 2);
    assert_int_equal(outbox_stored(b->o, "7:100"),
                     0); /* what a helper before us left is asked for */
    close_outbox(b);
    open_outbox(b, 1);
    assert_int_equal(outbox_stored(b->o, "7:100"), 12);
    assert_int_equal(outbox_stored(b->o, "8:100/3"), 5);
    assert_int_equal(outbox_stored(b->o, "8:100"), 0);
    bed_close(b);
    free(b);
}

/* P21: a long backlog comes in order, behind it what is new, and no faster than the cap. */
static void test_P21_drain_is_capped(void **state) {
    struct bed *b = malloc(sizeof(*b));
    const unsigned n = 3 * LIMIT_DRAIN_PER_S;
    uint64_t start;
    (void)state;

    bed_new(b, 1);
    b->fakes[0].answer = SINK_RETRY;
    for (uint64_t seq = 1; seq <= n; seq++)
        put(b, seq, make_batch(seq, 1, false), 0);
    wait_kept(b, n);
    b->fakes[0].answer = SINK_TAKEN;
    start = clock_mono_ms();
    wait_for(b, &b->fakes[0].n_seqs, n / 2);
    put(b, n + 1, make_batch(n + 1, 1, false), 0);
    wait_for(b, &b->empties, 1);
    assert_true(clock_mono_ms() - start >=
                1500); /* a bucket full, then two thirds of it at the rate: 2 s */
    assert_int_equal(b->fakes[0].n_seqs, n + 1);
    assert_int_equal(b->fakes[0].repeats, 0);
    assert_int_equal(b->fakes[0].last_seq, n + 1);
    bed_close(b);
    free(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_P26_cap),          cmocka_unit_test(test_P24_close_with_hanging_sink),
        cmocka_unit_test(test_P22_from_memory),  cmocka_unit_test(test_P22_memory_bounded),
        cmocka_unit_test(test_P22_opened_later), cmocka_unit_test(test_P22_fsync_fails),
        cmocka_unit_test(test_stored),           cmocka_unit_test(test_P21_drain_is_capped),
    };

    (void)signal(SIGXFSZ, SIG_IGN); /* as writes beyond RLIMIT_FSIZE send it */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
