/* registrar.h - joins the workers with the container's entry in the registry: its address, and a meta that follows them; and
 * the hubs that the registry knows with the sink that wants one. Loop thread only. */
#ifndef PILLION_REGISTRAR_H
#define PILLION_REGISTRAR_H

#include <uv.h>

#include "agent/base/buf.h"
#include "agent/config.h"
#include "collectors/workers.h"
#include "uploader/sink.h"

struct registrar;

/* Reads PILLION_REGISTRY, PILLION_ADVERTISE and Consul's own variables. -EINVAL with a line for people in `why`; -ENOMEM. *ret is
 * NULL where there is no registry: all the others take that. `config` and `env` stay the caller's and must outlive it. */
int registrar_new(struct registrar **ret, uv_loop_t *loop, const struct config *config,
                  char *const *env, const char *app, struct buf *why);
int registrar_start(struct registrar *r);
/* Each second or so: looks what has changed. */
void registrar_tick(struct registrar *r, const struct workers *workers, uint64_t now_ms);
/* Takes the entry back, in a second at most. Further calls do nothing. */
void registrar_leave(struct registrar *r);
/* Closes when it has left; may be called before. After the sinks. */
void registrar_close(struct registrar *r, void (*closed)(void *arg), void *arg);

/* For the sink `hub:`; NULL where there is no registry, or nobody asked for hubs in PILLION_SINK. */
const struct sink_hubs *registrar_hubs(const struct registrar *r);
/* The `registry` member of /status: an object. */
void registrar_status(const struct registrar *r, struct buf *out);

#endif
