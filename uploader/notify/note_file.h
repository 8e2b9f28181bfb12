/* note_file.h - one notification on disk.
 *
 *     <data_dir>/notify/<13 digits: unix ms>-<2 hex digits: targets that still need it>-<id>.note
 *     pillion-notification 1
 *     bytes <of the message>
 *     target <name of a target>                   one line each
 *     (empty line)
 *     <the message as it is sent>
 *
 * The bits of the hex number count the lines of targets, lowest first. So a confirmation is a rename. A file is
 * written under a temporary name (".new-…") and renamed: whole or not there for whoever comes after a kill; synced a little later, so
 * that after a loss of power it may be cut, which "bytes" tells. */
#ifndef PILLION_UPLOADER_NOTIFY_NOTE_FILE_H
#define PILLION_UPLOADER_NOTIFY_NOTE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "agent/base/limits.h"

#define NOTE_ID_BYTES   129
#define NOTE_FILE_BYTES 160
#define NOTE_HEAD_BYTES 32768 /* the lines before the message; beyond: damaged */

bool note_id_good(const char *id);
void note_file_name(char out[NOTE_FILE_BYTES], int64_t time_ms, unsigned needed, const char *id);
/* false: not a name of ours. */
bool note_file_parse_name(const char *name, int64_t *ret_time_ms, unsigned *ret_needed,
                          char ret_id[NOTE_ID_BYTES]);

/* Appends what stands before a message of `bytes`. */
void note_file_head(struct buf *out, size_t bytes, const char *const *targets, unsigned n);
/* The names of the targets, to be freed each; *ret_body is the offset of the message. `text` ends with a NUL. -EBADMSG: not
 * ours, or cut; -ENOMEM. */
int note_file_parse_head(const char *text, size_t len, char *ret_targets[LIMIT_NOTIFY_TARGETS],
                         unsigned *ret_n, size_t *ret_body);

/* -ENOSPC, -EROFS … Not synced. */
int note_file_write(int dirfd, const char *name, const char *text, size_t len);
int note_file_sync(int dirfd, const char *name);
/* The whole file; mem_free. -EBADMSG: longer than any of ours. */
int note_file_read(int dirfd, const char *name, char **ret, size_t *ret_len);

#endif
