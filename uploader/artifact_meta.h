/* artifact_meta.h - what is known of one artifact: its file in outgoing/, its place in the store, its message. Plain values.
 *
 *     outgoing/<id>.json   {"pillion_artifact":1,"app":…,"instance":…,"worker":…,"job":…,"kind":…,"extension":…,"pid":…,
 *                           "time_ms":…,"bytes":…,"sha256":…[,"url":…][,"parked":…]}
 *     outgoing/<id>.bin    the artifact
 *
 * <id> is 12 hexadecimal digits (milliseconds of Unix time, so that names sort by age), '-', 16 random ones. */
#ifndef PILLION_UPLOADER_ARTIFACT_META_H
#define PILLION_UPLOADER_ARTIFACT_META_H

#include <stdbool.h>
#include <stddef.h>

#include "uploader/artifacts.h"

#define ARTIFACT_META_BYTES 8192 /* of the file */

struct artifact_meta {
    struct artifact a; /* strings are owned */
    char *url;         /* NULL: not stored yet */
    char *parked;      /* why it will never be stored; NULL: it may be */
};

void artifact_id(int64_t wall_ms, char ret[ARTIFACT_ID_BYTES]);
/* "<id>.json" and "<id>.bin"; *ret_id gets the first part. */
bool artifact_is_file(const char *name, const char *suffix, char ret_id[ARTIFACT_ID_BYTES]);

/* -EINVAL: a string is missing, too long or no text; a hash that is none. -ENOMEM. Call artifact_meta_clear() after success. */
int artifact_meta_init(struct artifact_meta *m, const struct artifact *a);
void artifact_meta_clear(struct artifact_meta *m);
/* <id>.json in dirfd. -EBADMSG: it is not one of ours; or as open(2) says. */
int artifact_meta_load(struct artifact_meta *m, int dirfd, const char *id);
int artifact_meta_save(const struct artifact_meta *m, int dirfd, const char *id);
/* {"event":"artifact_ready",…}; with m->url. */
void artifact_message(const struct artifact_meta *m, struct buf *out);
/* By its extension. */
const char *artifact_type(const char *extension);

#endif
