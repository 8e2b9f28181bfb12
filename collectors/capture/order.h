/* order.h - whether an order can be carried out, before anything runs. Plain values. */
#ifndef PILLION_CAPTURE_ORDER_H
#define PILLION_CAPTURE_ORDER_H

#include "collectors/capture.h"

bool order_is_timed(enum capture_action action);    /* lasts for order->seconds */
bool order_is_snapshot(enum capture_action action); /* by V8's own way it stops the worker */
/* -EINVAL, -ENOTSUP as capture_start(). */
int order_check(const struct capture_order *o, const struct capture_target *t, char *why);
/* The same for a loop that does not turn. */
int order_check_stuck(const struct capture_order *o, const struct capture_target *t, char *why);
void order_defaults(struct capture_order *o);

#endif
