/* file.h - `file:` and `file:DIR`: batches as files, for zcat and jq.
 *
 * `file:` is <data_dir>/batches; DIR is an absolute path. A directory that is not there is made,
 * 0700; one that is there keeps its mode and must be ours, with no write permission for others. One
 * directory for one helper: helpers that share one would count each other's files as theirs to
 * remove.
 *
 * Each start of the helper begins a new file, and so does each LIMIT_SINK_FILE_BYTES; the caps and
 * names are in dir.h. A batch is one pwrite(2) behind the last good one. A write that fails, or a
 * full disk in the middle of one, takes back what it wrote; the batch is tried again after 1, 2, 4,
 * 4 … s. A kill in the middle of a write leaves a cut member at the end of the file, of a batch
 * that nobody was told was kept: the next start takes it away. Until then gzip says "unexpected end
 * of file" after it has given out everything before.
 *
 * "Kept" means written: it survives the end of this process, and a crash of the host only after the
 * kernel wrote it back. */
#ifndef PILLION_SINKS_FILE_H
#define PILLION_SINKS_FILE_H

#include "agent/base/buf.h"
#include "uploader/sink.h"

/* `rest` is what stands behind "file:". -EINVAL with `why`: not absolute, not ours, a link, no
 * permission … A disk that is full or read-only is no error here: the sink fails and comes back. */
int sink_file_new(struct sink **ret, const struct sink_env *env, const char *rest, struct buf *why);

#endif
