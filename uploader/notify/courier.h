/* courier.h - takes messages to one target, the oldest first, one at a time, with a back-off of its own. Loop thread only. */
#ifndef PILLION_UPLOADER_NOTIFY_COURIER_H
#define PILLION_UPLOADER_NOTIFY_COURIER_H

#include "agent/base/buf.h"
#include "uploader/notify/notes.h"
#include "uploader/notify/target.h"

struct courier;

/* Takes `t` over on success. No handle is open before courier_open(). -ENOMEM. */
int courier_new(struct courier **ret, struct target *t, unsigned bit);
void courier_free(struct courier *c); /* only before courier_open(); closes its target */
void courier_open(struct courier *c, uv_loop_t *loop, struct notes *notes);
/* Begins, with a try where the target knows one. */
void courier_start(struct courier *c);
/* Something may wait for it. */
void courier_kick(struct courier *c);
const char *courier_name(const struct courier *c);
/* After courier_open(). Asynchronous, once; frees c. */
void courier_close(struct courier *c, void (*closed)(void *arg), void *arg);
/* Appends one object of notify_write_status(). */
void courier_write_status(const struct courier *c, struct buf *out);

#endif
