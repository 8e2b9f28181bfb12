/* dir.h - a directory of batches: names, the cap, and what a helper that was killed left behind.
 *
 *     pillion-<yyyymmddThhmmssZ>-<boot, first 8 digits>-<number, 6 digits>.ndjson.gz
 *
 * Each file is gzip members behind each other, one a batch (uploader/batch.h). Files of other names
 * are never touched. A file that is being written to is locked (flock), so that nobody else mends
 * it. Stateless; for worker threads. */
#ifndef PILLION_SINKS_DIR_H
#define PILLION_SINKS_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SINK_DIR_NAME_BYTES 56
#define SINK_DIR_BOOT       8

void sink_dir_name(char out[SINK_DIR_NAME_BYTES], int64_t wall_ms, const char *boot, unsigned n);
bool sink_dir_is_ours(const char *name);

/* Takes away the cut member at the end of every file of another boot that nobody writes to: a kill
 * in the middle of a write leaves one, and gzip and jq would stumble over it. Nobody was told that
 * it was kept. A file that then is empty goes. What does not look like our members is left as it
 * is. Returns the number of files that were mended. */
unsigned sink_dir_mend(int dirfd, const char *boot);
/* For one open file: the length of its whole members, -EBADMSG when it is not a chain of them, or
 * another negative errno. */
int64_t sink_dir_good_bytes(int fd);

/* Removes the oldest files until one more, of `more` bytes, fits into LIMIT_SINK_DIR_BYTES and
 * LIMIT_SINK_FILES. Files of this boot are the newest whatever the clock says. Returns the number
 * of files removed. */
unsigned sink_dir_make_room(int dirfd, const char *boot, uint64_t more);

#endif
