/* registry.h - this container's one entry in the registry: made, kept alive, made again when it was forgotten, kept true, taken
 * back. When each of this happens is decided by schedule.h, what is said by dialect.h. Nothing here fails for good: a registry
 * that is away is asked again for ever. Loop thread only. */
#ifndef PILLION_UPLOADER_REGISTRY_REGISTRY_H
#define PILLION_UPLOADER_REGISTRY_REGISTRY_H

#include "agent/base/buf.h"
#include "uploader/registry/link.h"

struct registry;

/* What may change while the container lives. */
struct registry_facts {
    const char *address; /* IP address or name; "" not known */
    uint16_t port;       /* 0: none */
    bool commands;       /* a command port is served there */
    const char *node;    /* versions of the workers, with commas */
    unsigned workers;
};

/* The link stays the caller's, and must outlive it. -ENOMEM. */
int registry_new(struct registry **ret, struct registry_link *link, const char *app,
                 const char *instance, const char *version);
/* Copied. Before registry_start(), and then as often as one likes: only what differs is told to the registry, once a minute. */
void registry_describe(struct registry *r, const struct registry_facts *facts);
/* The first registration comes within SCHEDULE_SPREAD_MS. */
int registry_start(struct registry *r);
/* Takes the entry back, in LIMIT_REGISTRY_LEAVE_MS at most, then calls back once, from the loop. Nothing is sent after that. */
void registry_leave(struct registry *r, void (*left)(void *arg), void *arg);
/* Fine at any time; what is under way is cancelled, and `left` called if it was not yet. */
void registry_close(struct registry *r, void (*closed)(void *arg), void *arg);

/* Has a registration ever been taken, and is the last word of the registry that we are in it? */
bool registry_is_registered(const struct registry *r);
/* Members of an object, without its braces: "registry":…,"state":"waiting|registered|failing|left",… */
void registry_status(const struct registry *r, struct buf *out);

#endif
