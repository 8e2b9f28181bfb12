#include "uploader/notify.h"

#include <errno.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/notify/courier.h"
#include "uploader/notify/notes.h"
#include "uploader/notify/target.h"

#define SPEC_BYTES 4096
#define ACCEPTED                                                                                   \
    "accepted are none, or a list of amqp(s)://user:password@host:port/vhost?exchange=…&"        \
    "routing_key=… and http(s)://…"

/* Without targets: somebody who is to be told that nothing has to be kept. */
struct told {
    struct told *next;
    notify_kept_cb kept;
    void *arg;
};

struct notify {
    unsigned n;
    struct courier *couriers[LIMIT_NOTIFY_TARGETS];
    const char *names[LIMIT_NOTIFY_TARGETS]; /* theirs */
    struct notes *notes;                     /* NULL without targets */
    struct told *told;
    uv_timer_t later; /* for them */
    unsigned open;    /* couriers, the timer */
    bool started, closing;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* --- the list ----------------------------------------------------------------------------------- */

static bool is_web(const char *spec) {
    return text_starts(spec, "http://") || text_starts(spec, "https://");
}

static bool is_amqp(const char *spec) {
    return text_starts(spec, "amqp://") || text_starts(spec, "amqps://");
}

/* Copies the entry at *p without blanks around it; *p moves behind it, or to NULL after the last one. -ENAMETOOLONG. */
static int next_spec(const char **p, char spec[SPEC_BYTES]) {
    const char *start = *p + strspn(*p, " \t");
    size_t len = strcspn(start, ",");

    *p = start[len] == ',' ? start + len + 1 : NULL;
    while (len > 0 && (start[len - 1] == ' ' || start[len - 1] == '\t'))
        len--;
    spec[0] = '\0';
    if (len >= SPEC_BYTES)
        return -ENAMETOOLONG;
    memcpy(spec, start, len);
    spec[len] = '\0';
    return 0;
}

static bool is_none(const char *list) {
    char spec[SPEC_BYTES];
    const char *p = list;

    return list == NULL || (next_spec(&p, spec) == 0 && p == NULL &&
                            (spec[0] == '\0' || strcmp(spec, "none") == 0));
}

bool notify_list_needs_http(const char *list) {
    char spec[SPEC_BYTES];

    for (const char *p = list; p != NULL;)
        if (next_spec(&p, spec) == 0 && is_web(spec))
            return true;
    return false;
}

static void put_spec(struct buf *why, const char *spec) {
    char shown[160];

    text_show(shown, sizeof(shown), spec);
    buf_printf(why, "PILLION_NOTIFY: %s: ", shown);
}

static int make_target(struct target **ret, const char *spec, const struct notify_env *env,
                       struct buf *why) {
    if (*spec == '\0') {
        buf_puts(why, "PILLION_NOTIFY: an entry is empty; " ACCEPTED);
        return -EINVAL;
    }
    put_spec(why, spec);
    if (is_amqp(spec))
        return target_amqp_new(ret, spec, env, why);
    if (is_web(spec))
        return target_webhook_new(ret, spec, env, why);
    buf_puts(why, strcmp(spec, "none") == 0 ? "cannot stand beside others; " ACCEPTED
                                            : "is no target; " ACCEPTED);
    return -EINVAL;
}

static void ignore(void *arg) {
    (void)arg;
}

static int add_target(struct notify *n, const char *spec, const struct notify_env *env,
                      struct buf *why) {
    struct target *t;
    int rc;

    if (n->n == LIMIT_NOTIFY_TARGETS) {
        buf_printf(why, "PILLION_NOTIFY: more than %d targets", LIMIT_NOTIFY_TARGETS);
        return -EINVAL;
    }
    rc = make_target(&t, spec, env, why);
    if (rc != 0)
        return rc;
    rc = courier_new(&n->couriers[n->n], t, 1u << n->n);
    if (rc != 0) {
        t->ops->close(t, ignore, NULL);
        return rc;
    }
    buf_reset(why);
    n->names[n->n++] = t->name;
    for (unsigned i = 0; i + 1 < n->n; i++)
        if (strcmp(n->names[i], t->name) == 0) {
            buf_printf(why, "PILLION_NOTIFY: %s is named twice", t->name);
            return -EINVAL;
        }
    return 0;
}

static int take_list(struct notify *n, const char *list, const struct notify_env *env,
                     struct buf *why) {
    char spec[SPEC_BYTES];
    int rc = 0;

    if (is_none(list))
        return 0;
    for (const char *p = list; rc == 0 && p != NULL;) {
        rc = next_spec(&p, spec);
        if (rc == 0)
            rc = add_target(n, spec, env, why);
        else
            buf_puts(why, "PILLION_NOTIFY: an entry is too long");
    }
    return rc == -ENAMETOOLONG ? -EINVAL : rc;
}

static void free_couriers(struct notify *n) {
    while (n->n > 0)
        courier_free(n->couriers[--n->n]);
}

int notify_list_check(const char *list, struct buf *why) {
    const struct notify_env env = {.app = ""};
    struct notify *n;
    int rc;

    n = mem_calloc(1, sizeof(*n));
    if (n == NULL)
        return -ENOMEM;
    rc = take_list(n, list, &env, why);
    free_couriers(n);
    mem_free(n);
    return rc;
}

/* --- life --------------------------------------------------------------------------------------- */

static void on_ready(void *arg) {
    struct notify *n = arg;

    for (unsigned i = 0; i < n->n && n->started && !n->closing; i++)
        courier_kick(n->couriers[i]);
}

int notify_new(struct notify **ret, const char *list, const struct notify_env *env,
               struct buf *why) {
    struct notify *n;
    int rc;

    n = mem_calloc(1, sizeof(*n));
    if (n == NULL)
        return -ENOMEM;
    rc = take_list(n, list, env, why);
    if (rc == 0 && env->http == NULL && notify_list_needs_http(list)) {
        buf_puts(why,
                 "PILLION_NOTIFY: a webhook needs the network, which this process does not use");
        rc = -EINVAL;
    }
    if (rc == 0 && n->n > 0)
        rc = notes_new(&n->notes, env->loop, env->data_dir, n->names, n->n, on_ready, n, why);
    if (rc != 0) {
        free_couriers(n);
        mem_free(n);
        return rc;
    }
    for (unsigned i = 0; i < n->n; i++)
        courier_open(n->couriers[i], env->loop, n->notes);
    (void)uv_timer_init(env->loop, &n->later); /* cannot fail */
    *ret = n;
    return 0;
}

int notify_start(struct notify *n) {
    n->started = true;
    for (unsigned i = 0; i < n->n; i++)
        courier_start(n->couriers[i]);
    return 0;
}

static void on_later(uv_timer_t *t) {
    struct notify *n = container_of(t, struct notify, later);

    while (n->told != NULL) {
        struct told *first = n->told;

        n->told = first->next;
        first->kept(first->arg, 0);
        mem_free(first);
    }
}

static int send_to_nobody(struct notify *n, notify_kept_cb kept, void *arg) {
    struct told *t, **end = &n->told;

    if (kept == NULL)
        return 0;
    t = mem_calloc(1, sizeof(*t));
    if (t == NULL)
        return -ENOMEM;
    t->kept = kept;
    t->arg = arg;
    while (*end != NULL)
        end = &(*end)->next;
    *end = t;
    (void)uv_timer_start(&n->later, on_later, 0, 0); /* the handle is open */
    return 0;
}

int notify_send(struct notify *n, const char *id, const char *json, size_t len, notify_kept_cb kept,
                void *arg) {
    if (n->closing)
        return -ESHUTDOWN;
    if (n->notes == NULL)
        return send_to_nobody(n, kept, arg);
    return notes_add(n->notes, id, json, len, kept, arg);
}

/* --- closing ------------------------------------------------------------------------------------ */

static void finished(void *arg) {
    struct notify *n = arg;
    void (*closed)(void *closed_arg) = n->closed;

    arg = n->closed_arg;
    mem_free(n);
    closed(arg);
}

static void on_part_closed(void *arg) {
    struct notify *n = arg;

    if (--n->open > 0)
        return;
    if (n->notes != NULL)
        notes_close(n->notes, finished, n);
    else
        finished(n);
}

static void on_timer_closed(uv_handle_t *h) {
    struct notify *n = container_of((uv_timer_t *)h, struct notify, later);

    on_later(&n->later);
    on_part_closed(n);
}

void notify_close(struct notify *n, void (*closed)(void *arg), void *arg) {
    n->closing = true;
    n->closed = closed;
    n->closed_arg = arg;
    n->open = n->n + 1;
    for (unsigned i = 0; i < n->n; i++)
        courier_close(n->couriers[i], on_part_closed, n);
    uv_close((uv_handle_t *)&n->later, on_timer_closed);
}

/* --- status ------------------------------------------------------------------------------------- */

int notify_write_status(const struct notify *n, struct buf *out) {
    buf_putc(out, '[');
    for (unsigned i = 0; i < n->n; i++) {
        buf_puts(out, i > 0 ? "," : "");
        courier_write_status(n->couriers[i], out);
    }
    buf_putc(out, ']');
    return out->err;
}

size_t notify_backlog(const struct notify *n) {
    return n->notes != NULL ? notes_count(n->notes) : 0;
}
