/* hub.h - the sink `hub+http(s)://…` and `hub:`: batches to a hub, as they are.
 *
 *     POST <address>/v1/batches
 *     Content-Type: application/x-ndjson      Content-Encoding: gzip
 *     Idempotency-Key: <boot>-<seq>           the batch, for ever; a repeat has the same
 *
 * After a 413 it goes in parts, each with the first line of the batch (its "records" still counts the whole batch) and some of its
 * records; Idempotency-Key is then <boot>-<seq>.<first>-<last>, the numbers of the records from 1. The same parts again after a
 * restart, as far as the limit of the hub is the same.
 *
 * What the answers mean is in uploader/answer.h. A 2xx may carry {"commands":[{"id":…,"action":…,…},…]}: each goes to
 * sink_env.command. When nothing was sent for HUB_IDLE_MS an empty batch is posted ("seq":0, "records":0, no Idempotency-Key), so
 * that commands come in time; how that ends is not the queue's business.
 *
 * `hub:` asks sink_env.hubs where to go, and goes on to the next when one does not answer within 3 s. */
#ifndef PILLION_UPLOADER_SINKS_HUB_H
#define PILLION_UPLOADER_SINKS_HUB_H

#include "uploader/sink.h"

#define HUB_IDLE_MS 10000

/* `address`: "http(s)://…", or NULL for the hubs of the registry. */
int sink_hub_new(struct sink **ret, const struct sink_env *env, const char *address,
                 struct buf *why);

#endif
