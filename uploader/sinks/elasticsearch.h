/* elasticsearch.h - the sink `es+http(s)://[user:password@]host[:port][/path][/NAME][?kind=…&template=…]`: Elasticsearch 7 and 8,
 * OpenSearch 1 and 2.
 *
 * One document a record, by _bulk, as `create` with the id <boot>-<seq>-<line>: a repeat is not a second document. A document:
 *
 *     {"@timestamp":…,"app":…,"instance":…,"boot":…,"seq":…,"line":…,"kind":"process","worker":…,"pid":…,
 *      "v8js_memory_heap_used":4823040,"process_cpu_time__user":1.5,"v8js_gc_duration_bucket__minor__0_01":3,…}
 *
 * A dot in a field's name would make an object of it, and `a` beside `a.b` a mapping error: so dots are underscores, and each
 * value of an attribute stands behind two of them, in the order of the attributes' names.
 *
 * NAME is `pillion` without it. kind:
 *   daily   (default) index NAME-yyyy.mm.dd by the time of the record (UTC): a repeat meets the same index, whenever it comes
 *   stream  data stream NAME. A repeat after a rollover is a second document there
 *   index   index or alias NAME, which somebody else has made
 * template=none: the index template NAME (of `daily` and `stream`) is somebody else's business; else it is made when there is none.
 *
 * Answers: 409 is a repeat and fine; 400 parks that record with its reason, the others are stored; 429, 403 (read-only), 404 and 5xx
 * of single items: only those are sent again. Others as in uploader/answer.h. */
#ifndef PILLION_UPLOADER_SINKS_ELASTICSEARCH_H
#define PILLION_UPLOADER_SINKS_ELASTICSEARCH_H

#include "uploader/sink.h"

int sink_elasticsearch_new(struct sink **ret, const struct sink_env *env, const char *address,
                           struct buf *why);

/* "process.cpu.time{cpu.mode=user}" → "process_cpu_time__user"; others (without '.' and '{') as they are. n bytes; always
 * terminated, cut to fit. */
void elasticsearch_field(const char *key, size_t n, char *out, size_t size);

#endif
