/* segments.h - the segment files of a spool directory: their names, sizes and order.
 *
 *     <number of the first record, 16 hex digits>.seg     .bad once something in it was found to be damaged
 *     quarantine/                                         what was set aside; never deleted by us
 *
 * Files of other names are left alone. Blocking; belongs to one thread at a time. */
#ifndef PILLION_SPOOL_SEGMENTS_H
#define PILLION_SPOOL_SEGMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEGMENT_NAME_BYTES 32

struct segment {
    uint64_t first; /* number of its first record */
    uint64_t bytes;
    uint64_t bad_to; /* damage was counted up to here */
    uint32_t id;     /* of this entry: a number can come again */
    bool damaged;
};

struct segments {
    int dirfd;             /* the caller's */
    struct segment *items; /* by number */
    size_t n, cap;
    uint32_t last_id;
    uint64_t bytes;       /* of all of them */
    uint64_t aside_bytes; /* in quarantine */
    unsigned aside_files;
};

void segments_init(struct segments *s);
void segments_clear(struct segments *s);
/* Reads the directory. */
int segments_list(struct segments *s, int dirfd);
/* Makes a new, empty one behind all others; returns its descriptor (write only). Its name is durable. */
int segments_create(struct segments *s, uint64_t first);
/* Opens one, O_RDONLY or O_WRONLY. */
int segments_open(const struct segments *s, size_t i, int how);
/* Where the record is, or would be: the last segment that does not begin behind it; 0 when all do. s->n > 0. */
size_t segments_find(const struct segments *s, uint64_t number);
void segments_grown(struct segments *s, size_t i, uint64_t bytes); /* to so many */
/* It is known, also to the next start, that not all of it can be read. */
void segments_mark(struct segments *s, size_t i);
/* Into quarantine and out of the list. */
int segments_set_aside(struct segments *s, size_t i, const char *why);
/* Unlinks it or, when it is damaged, sets it aside. It leaves the list in any case but an error of the disk. */
int segments_remove(struct segments *s, size_t i);
/* A copy of any other file of the spool into quarantine, by a second link; its name stays. */
void segments_keep(struct segments *s, const char *name);

#endif
