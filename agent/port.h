/* port.h - the command port (PILLION_LISTEN): /v1/commands, /v1/jobs, /v1/workers for those who have PILLION_TOKEN, /healthz for
 * everybody. Loop thread only.
 *
 * A port that is taken, or an address that is not ours, does not keep the helper from its work: it is said, tried again each
 * minute, and shown in /status. */
#ifndef PILLION_PORT_H
#define PILLION_PORT_H

#include <stdint.h>
#include <uv.h>

#include "agent/base/buf.h"
#include "agent/config.h"
#include "agent/jobs.h"
#include "ipc/http.h"

struct port;

struct port_env {
    uv_loop_t *loop;
    const struct config *config;
    struct jobs *jobs;
    /* Pages of the status socket that are served here as well. */
    http_handler pages;
    void *pages_arg;
};

/* -ENOMEM; other errors are for status. *ret is NULL for `none`. */
int port_new(struct port **ret, const struct port_env *env);
/* To be called now and then; now_ms monotonic. */
void port_tick(struct port *p, uint64_t now_ms);
/* {"listen":…,"state":"none|listening|failed","error":…} */
void port_status(const struct port *p, struct buf *out);
/* Takes no commands any more. */
void port_stop(struct port *p);
void port_close(struct port *p, void (*closed)(void *arg), void *arg);

#endif
