/* discovery.h - which hubs there are, asked of the registry, and which of them to use.
 *
 * Consul is asked by blocking queries: an answer comes when something has changed, or after two minutes. Eureka is asked every
 * 30 s. Four questions a minute at most, whatever the registry answers. What it says is kept when it is away, and for 10 min
 * when it says that there are none (hubs.h). Loop thread only. */
#ifndef PILLION_UPLOADER_REGISTRY_DISCOVERY_H
#define PILLION_UPLOADER_REGISTRY_DISCOVERY_H

#include "uploader/registry/link.h"

#define HUB_SERVICE "pillion-hub"

struct discovery;

/* `changed` (may be NULL) is called from the loop when the list is another one. The link stays the caller's and must outlive
 * this. `key` is schedule_key() of this container: the order in which it prefers hubs. -ENOMEM. */
int discovery_new(struct discovery **ret, struct registry_link *link, const char *service,
                  uint64_t key, void (*changed)(void *arg), void *arg);
int discovery_start(struct discovery *d);
void discovery_close(struct discovery *d, void (*closed)(void *arg), void *arg);

/* The hub to use now, "http(s)://host:port"; NULL: none is known. Good until the loop turns. */
const char *discovery_pick(const struct discovery *d);
/* How it went. A hub that did not answer in 3 s, refused the connection, or answered with 5xx has failed: true when
 * discovery_pick() names another one now, so that the same batch can go there at once. It is tried again after a minute. */
bool discovery_failed(struct discovery *d, const char *url);
void discovery_worked(struct discovery *d, const char *url);

/* The index of the next question, from that of the last one and the header X-Consul-Index of its answer (NULL: there was none): one
 * that went backwards is begun anew, and none is below 1, or each question would be answered at once.
 * https://developer.hashicorp.com/consul/api-docs/features/blocking#implementation-details */
uint64_t discovery_next_index(uint64_t before, const char *header);

/* An object: service, state (waiting, ok, failing), last_success, last_error, hubs: [{"url":…,"state":"ok|failed"}]. */
void discovery_status(const struct discovery *d, struct buf *out);

#endif
