/* What the outbox does with the disk. One turn at a time in a worker thread does all that waits: opens the spool, notes
 * positions, writes parcels, removes what every sink has, reads for the sinks that want a batch. The loop fills in what
 * is to be done (fill), the thread does it (on_turn), the loop takes the results (on_turned).
 *
 * fsync runs beside the turns: a turn hands out descriptors (spool_sync_take), another worker thread waits for the disk,
 * and the next turn is told how it went. When it failed, what is not durable is written again, into a new segment.
 *
 * While a sink is behind, batches are packed as they are written (spool/pack.h): a day of outage fits the spool, and
 * packing costs nothing while all is well.
 *
 * A write fails: the parcels stay, the timer `again` tries once more; lanes are fed from memory meanwhile. */
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "uploader/outbox_impl.h"
#include "uploader/spool/fault.h"
#include "uploader/spool/pack.h"

#define WRITE_RETRY_MIN_MS 1000
#define WRITE_RETRY_MAX_MS 4000
#define WARN_EVERY_MS      60000
#define PACK_BEHIND        3             /* batches that a sink is behind: then they are packed */
#define SYNC_EARLY_BYTES   (1024 * 1024) /* so much is held for the case that fsync fails */

/* --- in the worker thread --- */

/* What this thread has used of a core: on a busy machine the wall clock would say more. */
static int64_t thread_ns(void) {
    struct timespec t = {0};

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* never fails */
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A hundredth of the time of a core, and 200 ms at once: with more workers or a shorter interval than that is good for,
 * every second or tenth batch goes as it is. */
static bool may_pack(struct outbox *o, uint64_t now_ns) {
    o->pack_credit_ns += (int64_t)((now_ns - o->pack_at_ns) / LIMIT_PACK_SHARE);
    o->pack_at_ns = now_ns;
    if (o->pack_credit_ns > LIMIT_PACK_BURST_MS * 1000000LL)
        o->pack_credit_ns = LIMIT_PACK_BURST_MS * 1000000LL;
    return o->pack_credit_ns > 0;
}

/* True: it is packed, and was seen to come back as it was. */
static bool pack(struct outbox *o, const struct batch *b, struct buf *out) {
    int64_t begun;
    bool good;

    if (!o->turn_packs || !may_pack(o, uv_hrtime()))
        return false;
    begun = thread_ns();
    good = pack_batch(out, b) == 0 && out->len < b->len && pack_holds(out->data, out->len, b);
    o->pack_credit_ns -= thread_ns() - begun;
    counter_add(COUNTER_SPOOL_PACKED, good);
    return good;
}

static int append(struct outbox *o, const struct parcel *p, uint64_t *ret_number) {
    struct spool_entry e = {.number = p->number,
                            .seq = p->seq,
                            .time_ms = p->time_ms,
                            .records = p->batch->records,
                            .raw_bytes = (uint32_t)p->batch->raw_bytes,
                            .data = p->batch->data,
                            .len = p->batch->len};
    struct buf index, packed;
    int rc;

    buf_init(&packed, SPOOL_DATA_MAX);
    if (pack(o, p->batch, &packed)) {
        e.form = SPOOL_PACKED;
        e.data = packed.data;
        e.len = packed.len;
    }
    memcpy(e.boot, o->boot, sizeof(e.boot));
    buf_init(&index, SPOOL_INDEX_MAX);
    for (size_t i = 0; i < p->n_workers; i++)
        spool_index_add(&index, p->workers[i].id, p->workers[i].last, p->workers[i].count);
    rc = index.err;
    e.index = index.data != NULL ? index.data : "";
    e.index_len = index.len;
    if (rc == 0)
        rc = spool_append(o->spool, &e, ret_number);
    buf_clear(&index);
    buf_clear(&packed);
    return rc;
}

static void write_parcels(struct outbox *o) {
    int rc = 0;

    for (unsigned i = 0; i < o->turn_n && rc == 0; i++) {
        rc = append(o, o->turn_parcels[i], &o->turn_numbers[i]);
        o->turn_written += rc == 0;
    }
    o->turn_rc = rc;
    if (rc != 0)
        (void)snprintf(o->turn_error, sizeof(o->turn_error), "cannot write to the spool: %s",
                       rc == -EUCLEAN ? "the disk did not take what it had taken before"
                                      : strerror(-rc));
}

/* The record as a batch, in the block that it was read into unless it was packed. Takes the block. */
static int make_batch(struct batch **ret, struct spool_found *f) {
    struct batch *b;

    if (f->head.form == SPOOL_PACKED) {
        int rc = unpack_batch(ret, f->body + f->head.index_bytes, f->head.data_bytes,
                              f->head.raw_bytes, f->head.seq, f->head.records);

        mem_free(f->body);
        return rc;
    }
    b = mem_calloc(1, sizeof(*b));
    if (b == NULL) {
        mem_free(f->body);
        return -ENOMEM;
    }
    b->seq = f->head.seq;
    b->records = f->head.records;
    b->raw_bytes = f->head.raw_bytes;
    b->mem = f->body;
    b->data = f->body + f->head.index_bytes;
    b->len = f->head.data_bytes;
    b->refs = 1;
    *ret = b;
    return 0;
}

static void read_for(struct outbox *o, struct lane *l) {
    struct spool_found f;
    int rc = -EBADMSG;

    while (rc == -EBADMSG) {
        l->found_rc = spool_read(o->spool, &l->cursor, &f);
        if (l->found_rc != 1)
            break;
        rc = make_batch(&l->found, &f);
        counter_add(COUNTER_SPOOL_DAMAGED,
                    rc == -EBADMSG); /* its checksum is right: it was packed wrongly */
    }
    l->found_next = l->cursor.next;
    if (l->found_rc != 1) {
        if (l->found_rc == 0) { /* all there is was looked at; what is missing is lost */
            struct spool_view v;

            spool_look(o->spool, &v);
            l->found_next = v.next;
        }
        return;
    }
    l->found_number = f.head.number;
    l->found_ms = f.head.time_ms;
    if (rc != 0) {
        l->found_rc = -ENOMEM;
        l->cursor.next = l->found_number;
    }
}

static void look(struct outbox *o) {
    uint64_t dropped = spool_dropped_samples(o->spool);

    for (unsigned i = 0; i < o->n_lanes; i++) {
        struct lane *l = &o->lanes[i];

        l->found_ahead_bytes = spool_bytes_ahead(o->spool, spool_position(o->spool, l->place));
        l->found_dropped = spool_dropped(o->spool, l->place);
    }
    if (dropped != o->dropped_samples) {
        buf_reset(&o->turn_dropped_json);
        o->turn_dropped_json.err = 0;
        spool_dropped_json(o->spool, &o->turn_dropped_json);
        o->turn_dropped = o->turn_dropped_json.err == 0;
    }
    o->dropped_samples = dropped;
    spool_look(o->spool, &o->turn_view);
}

static void on_turn(uv_work_t *w) {
    struct outbox *o = container_of(w, struct outbox, turn);

    o->turn_rc = 0;
    o->turn_written = 0;
    o->turn_opened = false;
    if (o->turn_open) {
        o->turn_rc = spool_open(o->spool, o->turn_error, sizeof(o->turn_error));
        o->turn_opened = o->turn_rc == 0;
    }
    if (!spool_is_open(o->spool)) {
        spool_look(o->spool, &o->turn_view);
        return;
    }
    if (o->turn_synced > 0)
        spool_synced(o->spool, o->turn_synced);
    if (o->turn_rewind > 0)
        spool_rewind(o->spool, o->turn_rewind);
    for (unsigned i = 0; i < o->n_lanes;
         i++) /* an error stays in memory, and costs a repeat at most */
        if (o->lanes[i].turn_step > 0)
            (void)spool_step(o->spool, o->lanes[i].place, o->lanes[i].turn_step);
    if (o->turn_writes)
        write_parcels(o);
    (void)spool_trim(o->spool); /* tried again by the next turn */
    for (unsigned i = 0; i < o->n_lanes; i++)
        if (o->lanes[i].turn_read)
            read_for(o, &o->lanes[i]);
    if (o->turn_final)
        (void)spool_sync(o->spool); /* nobody is left to try again */
    if (o->turn_takes && !spool_sync_take(o->spool, o->sync_fds, &o->sync_up_to))
        o->turn_takes = false;
    look(o);
}

static void on_sync(uv_work_t *w) {
    struct outbox *o = container_of(w, struct outbox, sync);

    o->sync_rc = 0;
    for (int i = 0; i < 2; i++) {
        if (o->sync_fds[i] < 0)
            continue;
        if (fdatasync(o->sync_fds[i]) != 0)
            o->sync_rc = -errno;
        (void)close(o->sync_fds[i]); /* a copy */
        o->sync_fds[i] = -1;
    }
    FAULT("synced");
}

/* --- on the loop --- */

static void start_sync(struct outbox *o);

/* In `sync_ms`, or at once when so much is held that it should become durable. */
static void sync_soon(struct outbox *o) {
    if (!o->dirty || o->closing || o->sync_running)
        return;
    if (o->bytes > SYNC_EARLY_BYTES)
        o->sync_wanted = true;
    else if (!uv_is_active((uv_handle_t *)&o->sync_due))
        (void)uv_timer_start(&o->sync_due, turn_on_sync_due, o->sync_ms,
                             0); /* the handle is open */
}

static void note_write_failure(struct outbox *o) {
    if (o->write_delay_ms == 0)
        o->failing_since_ms = clock_mono_ms();
    o->write_delay_ms = o->write_delay_ms == 0 ? WRITE_RETRY_MIN_MS : o->write_delay_ms * 2;
    if (o->write_delay_ms > WRITE_RETRY_MAX_MS)
        o->write_delay_ms = WRITE_RETRY_MAX_MS;
    memcpy(o->last_error, o->turn_error, sizeof(o->last_error));
    counter_add(COUNTER_SPOOL_WRITES_FAILED, 1);
    if (log_due(&o->warned, WARN_EVERY_MS))
        log_warn("%s; batches wait in memory, up to %d MiB, and are tried again every %d s",
                 o->last_error, LIMIT_BACKLOG_BYTES >> 20, WRITE_RETRY_MAX_MS / 1000);
    if (!o->closing)
        (void)uv_timer_start(&o->again, turn_on_again, o->write_delay_ms,
                             0); /* the handle is open */
}

static void note_write_success(struct outbox *o) {
    if (o->write_delay_ms > 0)
        log_info("the spool can be written to again after %llu s",
                 (unsigned long long)((clock_mono_ms() - o->failing_since_ms) / 1000));
    o->write_delay_ms = 0;
    o->warned = 0;
}

static void take_written(struct outbox *o) {
    for (unsigned i = 0; i < o->turn_n; i++) {
        struct parcel *p = o->turn_parcels[i];

        p->in_turn = false;
        if (i >= o->turn_written)
            continue;
        p->number = o->turn_numbers[i];
        p->written = true;
        for (unsigned k = 0; k < o->n_lanes; k++)
            lane_written(&o->lanes[k], p);
    }
    if (o->turn_rc == -EUCLEAN)
        o->rewind_wanted = true;
    if (o->turn_rc != 0)
        note_write_failure(o);
    else if (o->turn_n > 0 || o->turn_opened)
        note_write_success(o);
}

/* What is not durable by then is written again, under the numbers that it has; but only what is behind the last one
 * that is not at hand any more. Returns the first of these numbers. */
static uint64_t prepare_rewind(struct outbox *o) {
    uint64_t at_hand = 0, from = o->view.next;

    for (const struct parcel *p = o->first; p != NULL; p = p->next)
        if (p->written && !p->durable && p->batch == NULL)
            at_hand = p->number + 1;
    for (struct parcel *p = o->first; p != NULL; p = p->next) {
        if (!p->written || p->durable || p->number < at_hand)
            continue;
        p->written = false;
        from = p->number < from ? p->number : from;
    }
    return from;
}

static void fill_parcels(struct outbox *o) {
    o->turn_n = 0;
    o->turn_writes = !uv_is_active((uv_handle_t *)&o->again) || o->turn_final;
    for (struct parcel *p = o->first; o->turn_writes && p != NULL && o->turn_n < OUTBOX_TURN_MOST;
         p = p->next) {
        if (p->written || p->over || p->batch == NULL)
            continue;
        p->in_turn = true;
        o->turn_parcels[o->turn_n++] = p;
    }
}

/* True when there is anything to do. */
static bool fill(struct outbox *o) {
    bool any;

    o->turn_final = o->closing && !o->final_done;
    o->turn_rewind = o->rewind_wanted ? prepare_rewind(o) : 0;
    fill_parcels(o);
    o->turn_open = !o->view.open && o->turn_writes && !o->closing;
    o->turn_synced = o->synced;
    o->turn_packs = false;
    o->turn_takes = o->sync_wanted && !o->sync_running && !o->closing;
    any = o->turn_n > 0 || o->turn_final || o->turn_takes || o->turn_rewind > 0 || o->turn_open;
    for (unsigned i = 0; i < o->n_lanes; i++) {
        struct lane *l = &o->lanes[i];

        l->turn_step = l->step_wanted ? l->next : 0;
        l->turn_read = lane_wants(l) && !o->closing;
        if (l->turn_read && l->cursor.next < l->next)
            l->cursor.next = l->next;
        any |= l->turn_step > 0 || l->turn_read;
        o->turn_packs |= l->next + PACK_BEHIND <= o->view.next;
    }
    return any;
}

static void on_turned(uv_work_t *w, int status) {
    struct outbox *o = container_of(w, struct outbox, turn);
    bool stepped = false;

    (void)status; /* is never cancelled */
    o->turn_running = false;
    o->view = o->turn_view;
    if (o->turn_dropped) {
        struct buf old = o->dropped_json;

        o->dropped_json = o->turn_dropped_json;
        o->turn_dropped_json = old;
        o->turn_dropped = false;
    }
    if (o->turn_opened)
        for (unsigned i = 0; i < o->n_lanes; i++)
            o->lanes[i].next = o->lanes[i].cursor.next =
                spool_position(o->spool, o->lanes[i].place);
    take_written(o);
    for (unsigned i = 0; i < o->n_lanes; i++) {
        struct lane *l = &o->lanes[i];

        stepped |= l->turn_step > 0;
        l->ahead_bytes = l->found_ahead_bytes;
        l->spool_dropped = l->found_dropped;
        if (l->turn_step == l->next)
            l->step_wanted = false;
        if (l->turn_read && o->view.open)
            lane_found(l);
    }
    o->dirty |= o->turn_written > 0 || stepped;
    if (o->turn_takes)
        start_sync(o);
    else
        sync_soon(o);
    o->final_done |= o->turn_final && (o->turn_rc != 0 || o->turn_n < OUTBOX_TURN_MOST);
    FAULT("before-kept");
    outbox_settle(o); /* may close us: the others look */
    FAULT("after-kept");
    for (unsigned i = 0; i < o->n_lanes; i++)
        lane_pump(&o->lanes[i]);
    turn_begin(o);
    outbox_maybe_closed(o);
}

void turn_begin(struct outbox *o) {
    if (o->spool == NULL || o->turn_running || o->final_done || (o->closing && o->busy > 0) ||
        !fill(o))
        return;
    o->rewind_wanted = false;
    o->synced = 0;
    o->sync_wanted &= !o->turn_takes;
    o->turn_running = true;
    (void)uv_queue_work(o->loop, &o->turn, on_turn, on_turned); /* fails without a callback only */
}

void turn_hurry(struct outbox *o) {
    (void)uv_timer_stop(&o->again); /* never fails */
    turn_begin(o);
}

void turn_on_again(uv_timer_t *t) {
    turn_begin(container_of(t, struct outbox, again));
}

/* --- fsync --- */

static void on_synced(uv_work_t *w, int status) {
    struct outbox *o = container_of(w, struct outbox, sync);

    (void)status; /* is never cancelled */
    o->sync_running = false;
    if (o->sync_rc == 0) {
        o->synced = o->sync_up_to;
        for (struct parcel *p = o->first; p != NULL; p = p->next)
            if (p->written && p->number < o->sync_up_to)
                p->durable = true;
    } else {
        log_warn("the spool could not be made durable: %s; what was written since is written again",
                 strerror(-o->sync_rc));
        (void)snprintf(o->turn_error, sizeof(o->turn_error), "cannot make the spool durable: %s",
                       strerror(-o->sync_rc));
        o->rewind_wanted = true;
        note_write_failure(o);
    }
    outbox_settle(o);
    sync_soon(o);
    turn_begin(o);
    outbox_maybe_closed(o);
}

static void start_sync(struct outbox *o) {
    o->sync_running = true;
    o->dirty = false;
    (void)uv_queue_work(o->loop, &o->sync, on_sync, on_synced); /* fails without a callback only */
}

void turn_on_sync_due(uv_timer_t *t) {
    struct outbox *o = container_of(t, struct outbox, sync_due);

    o->sync_wanted = true;
    turn_begin(o);
}
