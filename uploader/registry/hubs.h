/* hubs.h - the servers that were found, and which of them to ask now. No clock, no loop, no network.
 *
 * Each helper has an order of its own (rendezvous hashing, by the names of application and instance): a thousand of them spread
 * over all hubs, and one hub more or less moves only its own share. The best one that has not failed is asked; one that
 * failed is left alone for a minute and then asked again, so that each helper goes back to where it belongs.
 * An answer without any hub is not believed for HUBS_KEEP_MS: the list that was good goes on to be used (P41). */
#ifndef PILLION_UPLOADER_REGISTRY_HUBS_H
#define PILLION_UPLOADER_REGISTRY_HUBS_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/limits.h"

#define HUB_URL_BYTES  288
#define HUBS_KEEP_MS   600000
#define HUBS_FAILED_MS 60000

struct hub {
    char url[HUB_URL_BYTES];  /* http(s)://host:port */
    uint64_t rank;            /* lower is asked first */
    uint64_t failed_until_ms; /* 0: has not failed */
};

struct hubs {
    uint64_t key;
    unsigned n;
    struct hub list[LIMIT_HUBS]; /* by rank */
    uint64_t good_ms;            /* when the list was last heard with anything in it */
};

void hubs_init(struct hubs *h, uint64_t key);
/* For a list that is being made. Beyond LIMIT_HUBS those of lowest rank stay. The host is a name, an IPv4 or an IPv6 address
 * without brackets. -EINVAL: that is no host or no port (of 1 to 65535). */
int hubs_add(struct hubs *h, bool tls, const char *host, int64_t port);
/* Takes over a new answer, with what is remembered of failures; true when the list is another one now. */
bool hubs_update(struct hubs *h, const struct hubs *answer, uint64_t now);
/* The one to ask now, or NULL when there is none. When all have failed, the one that failed first. */
const char *hubs_pick(const struct hubs *h, uint64_t now);
/* Unknown ones are fine: the list may have changed meanwhile. `failed` is true when that makes hubs_pick() give another one. */
bool hubs_failed(struct hubs *h, const char *url, uint64_t now);
void hubs_worked(struct hubs *h, const char *url);

#endif
