/* artifacts_impl.h - inside of uploader/artifacts.h: between artifacts.c (delivery) and outgoing.c (the list and its directory). */
#ifndef PILLION_UPLOADER_ARTIFACTS_IMPL_H
#define PILLION_UPLOADER_ARTIFACTS_IMPL_H

#include "uploader/artifact_meta.h"
#include "uploader/retention.h"

#define OUTGOING_NAME_BYTES (ARTIFACT_ID_BYTES + 8)

struct artifact_entry {
    struct artifacts *owner;
    struct artifact_entry *next;
    char id[ARTIFACT_ID_BYTES];
    uint64_t bytes;
    int64_t time_ms;
    bool parked, syncing, gone; /* gone: freed when it is synced */
    uv_work_t sync;
};

struct artifacts {
    struct artifacts_env env;
    char *dir; /* outgoing */
    int dirfd;
    uv_timer_t timer, rounds;
    struct artifact_entry *first; /* in the order in which they are tried */
    unsigned n, n_parked, n_syncing;
    uint64_t bytes;

    /* The one that is under way. */
    struct artifact_entry *now;
    struct artifact_meta meta;
    uint64_t sent;

    unsigned failures; /* in a row, whichever file */
    bool waiting;      /* for the timer */
    uint64_t stored;
    int64_t last_success_ms; /* wall clock; 0 never */
    char last_error[400];
    uint64_t said_failure;

    struct retention retention;
    uv_work_t retention_work;
    int retention_rc;
    bool retaining, retain_again;

    bool started, closing;
    unsigned handles;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* outgoing.c. An entry is one that is on disk. */
struct artifact_entry *outgoing_add(struct artifacts *a, const char *id, uint64_t bytes,
                                    int64_t time_ms); /* NULL: no memory */
void outgoing_unlink(struct artifact_entry *e);       /* frees it, or lets on_synced() do so */
void outgoing_to_the_end(struct artifact_entry *e);
void outgoing_name(const struct artifact_entry *e, const char *suffix,
                   char out[OUTGOING_NAME_BYTES]);
void outgoing_remove_files(struct artifact_entry *e);
void outgoing_make_room(struct artifacts *a); /* may call env.stored */
/* Takes over what is in the directory, oldest first. */
int outgoing_scan(struct artifacts *a);
void outgoing_say_stored(struct artifacts *a, const struct artifact_entry *e,
                         const struct artifact_meta *m, const char *error);

#endif
