/* outbox_bed.h - for the tests of the outbox: sinks that do what the test says, over a real spool. */
#ifndef PILLION_TEST_OUTBOX_BED_H
#define PILLION_TEST_OUTBOX_BED_H

#include "batches.h"
#include "uploader/outbox.h"

static UNUSED uint32_t text_crc(const struct batch *b) {
    uint32_t crc;

    memcpy(&crc, b->data + b->len - 8, sizeof(crc));
    return crc;
}

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
    uint32_t crcs[64]; /* of their text, as the gzip trailer says */
    unsigned n_seqs;
    unsigned tries, repeats;
    uint64_t last_seq;
    void (*closed)(void *arg);
    void *closed_arg;
};

static UNUSED void on_fake_timer(uv_timer_t *t) {
    struct fake *f = container_of(t, struct fake, timer);
    struct sink_result r = {.verdict = f->answer, .error = f->answer == SINK_TAKEN ? NULL : "fake"};

    assert_true(f->sending);
    f->sending = false;
    if (f->answer == SINK_TAKEN) {
        f->repeats += f->batch->seq <= f->last_seq;
        f->last_seq = f->batch->seq;
        f->crcs[f->n_seqs % 64] = text_crc(f->batch);
        f->seqs[f->n_seqs++ % 64] = f->batch->seq;
    }
    f->base.done(f->base.done_arg, &r);
}

static UNUSED int fake_start(struct sink *s) {
    (void)s;
    return 0;
}

static UNUSED void fake_send(struct sink *s, struct batch *b) {
    struct fake *f = container_of(s, struct fake, base);

    assert_false(f->sending);
    f->sending = true;
    f->tries++;
    f->batch = b;
    if (!f->hangs)
        (void)uv_timer_start(&f->timer, on_fake_timer, f->delay_ms, 0);
}

static UNUSED void fake_hurry(struct sink *s) {
    struct fake *f = container_of(s, struct fake, base);

    f->answer = SINK_RETRY;
    (void)uv_timer_start(&f->timer, on_fake_timer, 0, 0);
}

static UNUSED void on_fake_closed(uv_handle_t *h) {
    struct fake *f = container_of((uv_timer_t *)h, struct fake, timer);

    f->closed(f->closed_arg);
}

static UNUSED void fake_close(struct sink *s, void (*closed)(void *arg), void *arg) {
    struct fake *f = container_of(s, struct fake, base);

    assert_false(f->sending);
    f->closed = closed;
    f->closed_arg = arg;
    uv_close((uv_handle_t *)&f->timer, on_fake_closed);
}

static UNUSED void fake_free(struct sink *s) {
    mem_free(s->name);
}

static UNUSED const struct sink_ops fake_ops = {.retry_min_ms = 5,
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
    char dir[64], spool[80];
    uint64_t max_bytes, sync_ms;
    uint64_t kept[4096];
    int rcs[4096];
    unsigned n_kept;
    unsigned want; /* `reached` when so many are kept */
    bool reached, closed;
    unsigned empties;
    bool in_call; /* a call into the outbox is under way */
};

static UNUSED void on_kept(void *arg, uint64_t seq, int rc) {
    struct bed *b = arg;

    assert_false(b->in_call);
    assert_true(b->n_kept < 4096);
    b->kept[b->n_kept] = seq;
    b->rcs[b->n_kept++] = rc;
    if (b->n_kept == b->want)
        b->reached = true;
}

static UNUSED void on_empty(void *arg) {
    ((struct bed *)arg)->empties++;
}

static UNUSED void on_closed(void *arg) {
    struct bed *b = arg;

    assert_false(b->in_call);
    b->closed = true;
}

static UNUSED void open_outbox(struct bed *b, unsigned n) {
    struct outbox_options options = {.boot = TEST_BOOT,
                                     .spool_dir = b->spool,
                                     .spool_max_bytes = b->max_bytes,
                                     .spool_sync_ms = b->sync_ms};
    struct sink *sinks[2];
    struct buf why;

    memset(b->fakes, 0, sizeof(b->fakes));
    b->closed = false;
    b->n_kept = b->empties = 0;
    assert_int_equal(uv_loop_init(&b->loop), 0);
    buf_init(&why, 1000);
    for (unsigned i = 0; i < n; i++) {
        b->fakes[i].base.ops = &fake_ops;
        b->fakes[i].base.name = mem_strdup(i == 0 ? "one" : "two");
        (void)uv_timer_init(&b->loop, &b->fakes[i].timer);
        sinks[i] = &b->fakes[i].base;
    }
    if (outbox_new(&b->o, &b->loop, &options, sinks, n, on_kept, on_empty, b, &why) != 0)
        fail_msg("%s", why.data);
    buf_clear(&why);
    assert_int_equal(outbox_start(b->o), 0);
}

static UNUSED void bed_new(struct bed *b, unsigned n) {
    memset(b, 0, sizeof(*b));
    scratch_make(b->dir);
    (void)snprintf(b->spool, sizeof(b->spool), "%s/spool", b->dir);
    b->max_bytes = 64u << 20;
    b->sync_ms = 20;
    open_outbox(b, n);
}

static UNUSED void put(struct bed *b, uint64_t seq, struct batch *batch, int rc) {
    struct parcel *p;

    assert_int_equal(parcel_new(&p, seq), 0);
    assert_int_equal(parcel_seq(p), seq);
    b->in_call = true;
    outbox_put(b->o, p, batch, rc);
    b->in_call = false;
}

static UNUSED void close_outbox(struct bed *b) {
    b->in_call = true;
    outbox_close(b->o, on_closed, b);
    b->in_call = false;
    assert_true(run_until(&b->loop, &b->closed));
    assert_int_equal(uv_loop_close(&b->loop), 0);
    assert_int_equal(mem_live(), 0);
}

static UNUSED void bed_close(struct bed *b) {
    char out[16];

    close_outbox(b);
    (void)shell(out, sizeof(out), "rm -rf %s", b->dir);
}

static UNUSED void wait_kept(struct bed *b, unsigned n) {
    b->want = n;
    b->reached = b->n_kept >= n;
    assert_true(run_until(&b->loop, &b->reached));
}

static UNUSED void wait_for(struct bed *b, const unsigned *what, unsigned n) {
    uint64_t end = clock_mono_ms() + 30000;

    while (*what < n && clock_mono_ms() < end) {
        (void)uv_run(&b->loop, UV_RUN_NOWAIT);
        (void)poll(NULL, 0, 1);
    }
    assert_true(*what >= n);
}

static UNUSED bool status_has(const struct bed *b, const char *text) {
    struct buf out;
    bool has;

    buf_init(&out, 16384);
    outbox_status(b->o, &out);
    outbox_spool_status(b->o, &out);
    has = strstr(out.data, text) != NULL;
    if (!has)
        print_message("# %s: %s\n", text, out.data);
    buf_clear(&out);
    return has;
}

static UNUSED void in_order(const struct bed *b) {
    for (unsigned i = 0; i < b->n_kept; i++)
        assert_int_equal(b->kept[i], i + 1);
}

#endif
