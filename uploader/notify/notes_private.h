/* notes_private.h - what notes.c (while the loop runs) and notes_load.c (before) share. */
#ifndef PILLION_UPLOADER_NOTIFY_NOTES_PRIVATE_H
#define PILLION_UPLOADER_NOTIFY_NOTES_PRIVATE_H

#include "uploader/notify/notes.h"

/* Somebody waits to hear that a message is on disk. */
struct receipt {
    struct receipt *next;
    notify_kept_cb kept;
    void *arg;
    int rc;     /* if known */
    bool known; /* it was on disk already */
};

struct note {
    struct notes *owner;
    struct note *prev, *next;
    int64_t time_ms; /* of its file; the order */
    unsigned needed; /* targets that have not confirmed it */
    unsigned on_disk,
        wanted;        /* the same as its file's name has it, and as it is going to have it */
    unsigned readings; /* of the file, under way */
    unsigned holds;    /* readers that have not settled it */
    size_t bytes;      /* of the file */
    bool busy;         /* its file is being synced, renamed or removed */
    int rc;
    bool synced;
    struct receipt *receipts;
    uv_work_t work;
    char id[];
};

struct notes {
    uv_loop_t *loop;
    int dirfd;
    const char *const *targets;
    unsigned n_targets;
    void (*ready)(void *arg);
    void *arg;
    struct note *first, *last;
    size_t count, bytes; /* of those that somebody needs */
    int64_t last_ms;
    struct receipt *receipts;
    uv_timer_t later; /* for them */
    unsigned works;
    bool closing;
    void (*closed)(void *arg);
    void *closed_arg;
    uint64_t last_drop_log, last_disk_log;
};

struct note *note_new(const char *id, int64_t time_ms, unsigned needed, size_t bytes);
void note_free(struct note *n);
struct note *notes_find(const struct notes *s, const char *id);
void notes_insert(struct notes *s, struct note *n);
void notes_make_room(struct notes *s, size_t bytes);
void notes_sync(struct note *n);
void notes_free(struct notes *s); /* its handles are closed, or were never open */

#endif
