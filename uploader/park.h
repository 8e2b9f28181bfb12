/* park.h - the directory of what a remote end will never take: <data>/parked, one gzip file of NDJSON each.
 *
 *     <unix ms>-<boot>-<seq>-<line>.ndjson.gz
 *     {"pillion":1,…}                                     the first line of the batch
 *     {"parked":1,"time":…,"sink":…,"reason":…}           why the records below it are here
 *     {"kind":"process",…}                                and so on, a new "parked" line when the reason changes
 *
 * Bounded (LIMIT_PARKED_FILES, LIMIT_PARKED_BYTES): the oldest goes, counted. Nothing here is ever sent again by itself. Blocking:
 * for a worker thread. */
#ifndef PILLION_UPLOADER_PARK_H
#define PILLION_UPLOADER_PARK_H

#include <stddef.h>

/* Keeps `data` as file `name`. A negative errno when it could not be written; `why` says it in words. */
int park_put(const char *data_dir, const char *name, const void *data, size_t len, char *why,
             size_t why_size);

#endif
