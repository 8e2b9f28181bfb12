/* target.h - one place that is told: a broker or a webhook. Loop thread only. */
#ifndef PILLION_UPLOADER_NOTIFY_TARGET_H
#define PILLION_UPLOADER_NOTIFY_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "uploader/answer.h"
#include "uploader/notify.h"

#define TARGET_ERROR_BYTES 320

struct target_result {
    enum answer
        answer; /* TAKEN: confirmed; RETRY, SETTLE: later; PARK: it will never take this one */
    int64_t retry_after_ms; /* -1: not said */
    const char *error;      /* unless TAKEN: for people, without secrets */
    bool returned;          /* no queue wanted it */
};

struct target;

struct target_ops {
    /* One at a time. `body` stays until done. id NULL: only try whether it is there (NULL `body`). A negative errno: nothing was begun,
     * done will not come. Else t->done exactly once, never from inside, unless close comes before it. */
    int (*send)(struct target *t, const char *id, const char *body, size_t len);
    /* "up", "blocked" with the reason in *ret_why, or NULL: nothing to say. */
    const char *(*state)(const struct target *t, const char **ret_why);
    /* Gives up what is under way, frees t. Once; `closed` may come at once or later. */
    void (*close)(struct target *t, void (*closed)(void *arg), void *arg);
    bool probes; /* send with id NULL is possible */
};

struct target {
    const struct target_ops *ops;
    char *name; /* owned by the maker: what is shown and what a file says; without secrets */
    void (*done)(void *arg, const struct target_result *result);
    void *arg;
};

/* Nothing runs before the first send. -EINVAL with a line in `why`; -ENOMEM. */
int target_webhook_new(struct target **ret, const char *spec, const struct notify_env *env,
                       struct buf *why);
int target_amqp_new(struct target **ret, const char *spec, const struct notify_env *env,
                    struct buf *why);

#endif
