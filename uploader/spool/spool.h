/* spool.h - the disk queue of finished batches: what is in it, how it is written, bounded and cleaned. SPOOL.md draws
 * its files and tells what a crash at each step leaves.
 *
 * Everything here blocks and belongs to one thread at a time: uploader/outbox.c hands it to a worker thread, one job
 * after the other. Only spool_open() is called on the loop thread, once, before the loop runs. */
#ifndef PILLION_SPOOL_H
#define PILLION_SPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "uploader/spool/record.h"
#include "uploader/spool/segment.h"
#include "uploader/spool/workers.h"

struct spool;

/* Nothing is opened yet. `path` is copied. */
int spool_new(struct spool **ret, const char *path, uint64_t max_bytes);
void spool_free(struct spool *s); /* NULL is fine */
/* Names a sink that reads; its place, from 0. Before spool_open(). */
int spool_claim(struct spool *s, const char *sink);

/* Makes the directory, takes its lock, lists it, looks into the newest segments and cuts a half-written record off.
 * Can be repeated after it failed. `why` is for people: -EBUSY another helper has it, -EPERM, -ELOOP … as
 * fs_private_dir() says, or an error of the disk. 0 when it is open already. */
int spool_open(struct spool *s, char *why, size_t why_size);
bool spool_is_open(const struct spool *s);

/* The highest sample of this worker that is in the spool or went through it; 0 when none is known. */
uint64_t spool_last_sample(const struct spool *s, const char *worker);
/* All of them, for a thread of its own. */
int spool_copy_workers(const struct spool *s, struct spool_tallies *ret);

/* What is to be written. */
struct spool_entry {
    uint64_t number; /* 0: the next one; else what spool_rewind() took back, in the same order */
    unsigned char boot[SPOOL_BOOT_BYTES];
    uint64_t seq;
    int64_t time_ms;
    uint32_t records, raw_bytes;
    enum spool_form form; /* of data */
    const void *index;    /* spool_index_add() */
    size_t index_len;
    const void *data;
    size_t len;
};

/* Writes one record (it survives a kill from then on) and makes room first, the oldest segment going. *ret_number is
 * its number. After an error nothing of it is left. -EUCLEAN: a full segment could not be made durable: call
 * spool_rewind(). */
int spool_append(struct spool *s, const struct spool_entry *e, uint64_t *ret_number);

/* Descriptors of what is not durable yet, for fdatasync(2) in any thread; the caller closes them. Unused ones are -1.
 * *ret_up_to: records before this number will be durable. 0 when there is nothing to do, else 1. */
int spool_sync_take(struct spool *s, int fds[2], uint64_t *ret_up_to);
/* It went well. */
void spool_synced(struct spool *s, uint64_t up_to);
/* It failed: the kernel may have thrown the data away. What is not durable is taken out of its segment, from record
 * `from` on (those before it, whose data is not at hand any more, stay as they are), and the segment is never written to
 * again; write it anew with the numbers that it had. */
void spool_rewind(struct spool *s, uint64_t from);
/* Both at once, in this thread. */
int spool_sync(struct spool *s);

/* A sink has all records before `next`. After an error it is remembered in memory. */
int spool_step(struct spool *s, int place, uint64_t next);
uint64_t spool_position(const struct spool *s, int place);
/* Removes the segments that every sink has, once the positions are durable. The newest one always stays: it knows the
 * workers' last samples. */
int spool_trim(struct spool *s);

/* Where a sink reads. */
struct spool_cursor {
    uint64_t next;    /* number wanted */
    uint32_t segment; /* id of the open segment; 0 none */
    struct segment_walk walk;
};

struct spool_found {
    struct spool_head head;
    char *body; /* for the caller (mem_free): the index, then the batch */
};

void spool_cursor_init(struct spool_cursor *c, uint64_t next);
void spool_cursor_clear(struct spool_cursor *c);
/* The first record from c->next on: 1, and c->next is behind it. 0: there is none. -ENOMEM, -EMFILE …: try later; c
 * stays where it is. What is damaged is passed over. */
int spool_read(struct spool *s, struct spool_cursor *c, struct spool_found *ret);
/* Bytes from this record to the end, about. */
uint64_t spool_bytes_ahead(const struct spool *s, uint64_t next);

/* What there is to tell. */
struct spool_view {
    bool open;
    uint64_t first; /* of the oldest segment; 0 none */
    uint64_t next;  /* number of the record that is written next */
    uint64_t bytes, max_bytes;
    unsigned segments;
    uint64_t aside_bytes;
    unsigned aside_files;
};

void spool_look(const struct spool *s, struct spool_view *ret);
/* Batches of this sink that went because the spool was full, since it was opened. */
uint64_t spool_dropped(const struct spool *s, int place);
/* Appends a JSON object: worker → samples that went, "others" for those beyond LIMIT_SPOOL_DROPPED_WORKERS. Its
 * generation changes with it. */
void spool_dropped_json(const struct spool *s, struct buf *out);
uint64_t spool_dropped_samples(const struct spool *s);

#endif
