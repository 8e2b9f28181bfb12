#include "agent/commands.h"

#include <errno.h>
#include <jansson.h>
#include <sys/random.h>

#include "agent/base/clock.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "ipc/payload.h"

#define SECONDS_MOST     300
#define INTERVAL_LEAST   100
#define INTERVAL_MOST    100000
#define PROFILE_SECONDS  10
#define TRACE_SECONDS    30
#define SNAPSHOT_MS      600000
#define LIGHT_MS         30000
#define AFTER_SECONDS_MS 60000 /* a stuck loop, a busy machine, the writing */

/* --- parameters ----------------------------------------------------------------------------------------------------------- */

static int read_bool(json_t *params, const char *key, bool *ret, const struct payload *p) {
    json_t *v = json_object_get(params, key);

    if (v == NULL)
        return 0;
    if (!json_is_boolean(v))
        return payload_refuse(p, "%s: true or false is accepted", key);
    *ret = json_is_true(v);
    return 0;
}

static int read_seconds(json_t *params, struct command *c, const struct payload *p) {
    json_int_t v = c->order.action == CAPTURE_GC_TRACE ? TRACE_SECONDS : PROFILE_SECONDS;
    int rc = payload_integer(params, "seconds", 1, SECONDS_MOST, v, &v, p);

    if (rc == 0)
        c->order.seconds = (unsigned)v;
    return rc;
}

static int read_interval(json_t *params, struct command *c, const struct payload *p) {
    json_int_t v = 0;
    int rc =
        payload_integer(params, "interval_us", INTERVAL_LEAST, INTERVAL_MOST, INTERVAL_MOST, &v, p);

    if (rc == 0 && json_object_get(params, "interval_us") != NULL)
        c->order.interval_us = (unsigned)v;
    return rc;
}

static int read_allow_stall(json_t *params, struct command *c, const struct payload *p) {
    return read_bool(params, "allow_stall", &c->order.allow_stall, p);
}

static int read_force(json_t *params, struct command *c, const struct payload *p) {
    return read_bool(params, "force", &c->order.force, p);
}

static int read_hold(json_t *params, struct command *c, const struct payload *p) {
    return read_bool(params, "hold", &c->hold, p);
}

#define OF(action) (1u << CAPTURE_##action)
#define OF_HEAP    (OF(HEAP_SNAPSHOT) | OF(HEAP_HISTOGRAM))
#define OF_TIME    (OF(CPU_PROFILE) | OF(HEAP_PROFILE) | OF(GC_TRACE))
#define OF_ALL     ((1u << CAPTURE_ACTIONS) - 1)

static const struct {
    const char *key;
    int (*read)(json_t *params, struct command *c, const struct payload *p);
    unsigned actions;
} parameters[] = {
    {"seconds", read_seconds, OF_TIME},
    {"interval_us", read_interval, OF(CPU_PROFILE)},
    {"allow_stall", read_allow_stall, OF_HEAP},
    {"force", read_force, OF_HEAP},
    {"hold", read_hold, OF_ALL},
};

static int refuse_parameter(const char *key, enum capture_action action, const struct payload *p) {
    char accepted[128] = "";
    size_t len = 0;

    for (size_t i = 0; i < ARRAY_LEN(parameters); i++)
        if ((parameters[i].actions & (1u << action)) != 0 && len < sizeof(accepted))
            len += (size_t)snprintf(accepted + len, sizeof(accepted) - len, "%s%s",
                                    len > 0 ? ", " : "", parameters[i].key);
    return payload_refuse(p, "params.%.40s: %s takes %s", key, capture_action_name(action),
                          accepted);
}

static int read_parameters(json_t *root, struct command *c, struct payload *p) {
    json_t *params = json_object_get(root, "params"), *value;
    const char *key;
    int rc = 0;

    if (params != NULL && !json_is_null(params) && !json_is_object(params))
        return payload_refuse(p, "params: an object is accepted");
    json_object_foreach(params, key, value) {
        bool known = false;

        for (size_t i = 0; i < ARRAY_LEN(parameters); i++)
            known = known || (strcmp(parameters[i].key, key) == 0 &&
                              (parameters[i].actions & (1u << c->order.action)) != 0);
        if (!known)
            return refuse_parameter(key, c->order.action, p);
    }
    (void)text_copy(p->where, sizeof(p->where), "params.");
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(parameters); i++)
        if ((parameters[i].actions & (1u << c->order.action)) != 0)
            rc = parameters[i].read(params, c, p);
    p->where[0] = '\0';
    return rc;
}

/* --- the others ----------------------------------------------------------------------------------------------------------- */

static int read_id(json_t *root, struct command *c, const struct payload *p) {
    json_t *v = json_object_get(root, "id");

    if (v == NULL || json_is_null(v))
        return 0;
    if (!json_is_string(v) || !command_id_is_good(json_string_value(v)))
        return payload_refuse(
            p,
            "id: 1 to %d letters, digits, \".\", \"_\" and \"-\" are accepted, the "
            "first a letter or a digit",
            COMMAND_ID_BYTES);
    (void)text_copy(c->id, sizeof(c->id), json_string_value(v));
    return 0;
}

static int read_action(json_t *root, struct command *c, const struct payload *p) {
    const char *name = json_string_value(json_object_get(root, "action"));
    char accepted[160] = "";
    size_t len = 0;

    if (name != NULL && capture_action_read(name, &c->order.action) == 0)
        return 0;
    for (unsigned i = 0; i < CAPTURE_ACTIONS && len < sizeof(accepted); i++)
        len += (size_t)snprintf(accepted + len, sizeof(accepted) - len, "%s%s", i > 0 ? ", " : "",
                                capture_action_name((enum capture_action)i));
    return payload_refuse(p, "action: %s is %s", accepted, name == NULL ? "required" : "accepted");
}

/* A number is a pid, which is how scripts have it. */
static int read_worker(json_t *root, struct command *c, const struct payload *p) {
    static const char selectors[] =
        "all, a role, a pid, \"<pid>:<start>\" or \"<pid>:<start>/<thread>\"";
    json_t *v = json_object_get(root, "worker");
    json_int_t pid = json_integer_value(v);

    if (json_is_integer(v) && pid > 0 && pid <= INT32_MAX) {
        (void)snprintf(c->worker, sizeof(c->worker), "%d", (int)pid);
        return 0;
    }
    if (json_string_length(v) >= 1 && text_copy(c->worker, sizeof(c->worker), json_string_value(v)))
        return 0;
    return payload_refuse(p, "worker: %s is %s", selectors, v == NULL ? "required" : "accepted");
}

int command_read(const char *json, size_t len, struct command *ret, char *why) {
    struct payload p = {.why = why};
    struct command c = {.id = ""};
    json_t *root = NULL;
    int rc;

    why[0] = '\0';
    rc = payload_object(json, len, &root, &p);
    if (rc == 0)
        rc = read_id(root, &c, &p);
    if (rc == 0)
        rc = read_action(root, &c, &p);
    if (rc == 0)
        rc = read_worker(root, &c, &p);
    if (rc == 0)
        rc = read_parameters(root, &c, &p);
    json_decref(root);
    if (rc == 0) {
        c.order.deadline_ms = command_deadline_ms(&c.order);
        *ret = c;
    }
    return rc;
}

/* --- what follows from it --------------------------------------------------------------------------------------------------- */

uint64_t command_deadline_ms(const struct capture_order *order) {
    switch (order->action) {
    case CAPTURE_HEAP_SNAPSHOT:
    case CAPTURE_HEAP_HISTOGRAM:
        return SNAPSHOT_MS;
    case CAPTURE_CPU_PROFILE:
    case CAPTURE_HEAP_PROFILE:
    case CAPTURE_GC_TRACE:
        return order->seconds * 1000ull + AFTER_SECONDS_MS;
    case CAPTURE_REPORT:
    case CAPTURE_STACK:
        break;
    }
    return LIGHT_MS;
}

bool command_is_heavy(enum capture_action action) {
    return action != CAPTURE_REPORT && action != CAPTURE_STACK;
}

bool command_id_is_good(const char *id) {
    size_t n = 0;

    for (; id[n] != '\0'; n++)
        if (!payload_is_alnum(id[n]) && (n == 0 || strchr("._-", id[n]) == NULL))
            return false;
    return n >= 1 && n <= COMMAND_ID_BYTES;
}

void command_make_id(char *out) {
    uint64_t r = 0;

    /* Without entropy (in the first second of a machine) the clock is as good: an id only has to be new. */
    if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
        r = clock_mono_ns();
    (void)snprintf(out, COMMAND_ID_BYTES + 1, "j%016llx", (unsigned long long)r);
}

bool command_selects(const char *selector, const struct worker *w) {
    uint64_t pid;

    if (w->state == WORKER_GONE)
        return false;
    if (strcmp(selector, w->id) == 0 || strcmp(selector, w->role) == 0)
        return true;
    if (w->thread != 0)
        return false;
    return strcmp(selector, "all") == 0 ||
           (text_u64(selector, &pid) == 0 && pid == (uint64_t)w->pid);
}
