/* outbox_impl.h - what the parts of the outbox share: outbox.c (parcels, in and out), turn.c (the worker thread's part),
 * lane.c (one sink each). Nobody else includes this. */
#ifndef PILLION_UPLOADER_OUTBOX_IMPL_H
#define PILLION_UPLOADER_OUTBOX_IMPL_H

#include "agent/base/limits.h"
#include "uploader/outbox.h"
#include "uploader/spool/spool.h"

#define OUTBOX_ERROR_BYTES 400
#define OUTBOX_TURN_MOST   64 /* parcels written in one turn */

struct parcel_worker {
    char id[SPOOL_ID_BYTES];
    uint64_t last, count;
};

struct parcel {
    struct parcel *next;
    uint64_t seq;
    uint64_t number;     /* of its record in the spool; 0 it has none yet */
    int64_t time_ms;     /* wall clock when it was closed */
    struct batch *batch; /* NULL: dropped, or not needed any more */
    struct parcel_worker *workers;
    size_t n_workers, cap_workers, hint;
    uint32_t taken;                        /* by lane: it has this one, from memory */
    unsigned sending;                      /* lanes busy with it, from memory */
    bool in_turn;                          /* the worker thread reads it */
    bool written, durable, over, reported; /* over: nobody wants it any more */
    int rc;
};

/* One sink. */
struct lane {
    struct outbox *outbox;
    struct sink *sink;
    unsigned i;
    int place;             /* in the spool */
    uint64_t next;         /* number wanted next: all before it are taken, refused or lost */
    struct batch *batch;   /* the one at hand */
    uint64_t number;       /* its record; 0: from memory, `parcel` */
    struct parcel *parcel; /* stays while it is sent */
    int64_t head_ms;       /* wall clock of the batch at hand */
    bool sending, started;
    bool step_wanted;  /* the spool does not know `next` yet */
    uint64_t delay_ms; /* of the back-off; 0 = the last attempt was fine */
    uv_timer_t retry;
    uint64_t bucket_ms; /* of the cap on draining: when the bucket was filled last … */
    double bucket, bucket_bytes;
    uint64_t sent, refused,
        rescued;      /* rescued: counted as dropped by the spool, delivered all the same */
    uint64_t dropped; /* from memory */
    uint64_t failing_since_ms;
    uint64_t warned;
    int64_t last_success_ms; /* wall clock; -1 never */
    char last_error[OUTBOX_ERROR_BYTES / 2];

    /* Of the turn: the worker thread's while one runs. */
    struct spool_cursor cursor;
    bool turn_read;
    uint64_t turn_step; /* 0: no step */
    struct batch *found;
    uint64_t found_number, found_next;
    int64_t found_ms;
    int found_rc;
    uint64_t found_ahead_bytes, found_dropped;

    uint64_t ahead_bytes, spool_dropped; /* as of the last turn */
};

struct outbox {
    uv_loop_t *loop;
    outbox_kept_cb kept;
    outbox_empty_cb empty;
    void *arg;
    struct parcel *first, *last;
    size_t bytes; /* of their batches */
    uint64_t drops_warned;
    bool closing, settling, was_busy;
    bool final_done; /* closing: the last turn has run */
    unsigned busy;   /* sends under way, and while closing open handles and sinks */
    void (*closed)(void *arg);
    void *closed_arg;

    struct spool *spool;         /* NULL: no sinks */
    struct spool_tallies stored; /* as it was when the spool was opened */
    unsigned char boot[SPOOL_BOOT_BYTES];
    uint64_t sync_ms;
    struct spool_view view; /* as of the last turn */
    uv_timer_t later;       /* settles what was decided inside a call */
    uv_timer_t again;       /* writes are tried again */
    uv_timer_t sync_due;
    uint64_t write_delay_ms; /* of the back-off; 0 = the last write was fine */
    uint64_t failing_since_ms, warned;
    char last_error[OUTBOX_ERROR_BYTES];

    /* One turn of the worker thread; its fields are the thread's while it runs. */
    uv_work_t turn;
    bool turn_running, turn_open, turn_final, turn_writes, turn_takes, turn_packs;
    uint64_t turn_rewind; /* 0 no; else from this number on */
    uint64_t turn_synced; /* 0 no; else up to this number */
    struct parcel *turn_parcels[OUTBOX_TURN_MOST];
    uint64_t turn_numbers[OUTBOX_TURN_MOST];
    int64_t pack_credit_ns; /* of the cap on packing */
    uint64_t pack_at_ns;
    struct spool_view turn_view;
    unsigned turn_n, turn_written;
    int turn_rc;
    bool turn_opened;
    char turn_error[OUTBOX_ERROR_BYTES];
    uint64_t dropped_samples;
    struct buf dropped_json;      /* samples that went, by worker */
    struct buf turn_dropped_json; /* the same, made anew */
    bool turn_dropped;

    uv_work_t sync; /* fsync, beside the turns */
    bool sync_running, sync_wanted, rewind_wanted;
    bool dirty; /* something was written since the last fsync began */
    int sync_fds[2];
    uint64_t sync_up_to;
    int sync_rc;
    uint64_t synced; /* for the next turn */

    unsigned n_lanes;
    struct lane lanes[];
};

/* turn.c */
void turn_begin(struct outbox *o); /* the next turn, if there is anything to do and none runs */
void turn_hurry(struct outbox *o); /* without waiting for the back-off */
void turn_on_again(uv_timer_t *t);
void turn_on_sync_due(uv_timer_t *t);

/* lane.c */
void lane_init(struct lane *l, struct outbox *o, unsigned i, struct sink *sink);
void lane_clear(struct lane *l);
void lane_start(struct lane *l);
void lane_pump(struct lane *l);
bool lane_wants(const struct lane *l); /* a batch from the spool */
bool lane_has(const struct lane *l, const struct parcel *p);
bool lane_is_empty(const struct lane *l);
void lane_found(struct lane *l); /* after a turn that read for it */
void lane_written(struct lane *l, const struct parcel *p);
void lane_status(const struct lane *l, struct buf *out);

/* outbox.c */
void outbox_settle(struct outbox *o);
void outbox_release(struct outbox *o, struct parcel *p); /* its batch */
void outbox_maybe_closed(struct outbox *o);

#endif
