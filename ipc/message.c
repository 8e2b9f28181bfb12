#include "ipc/message.h"

#include <errno.h>
#include <limits.h>

#include "agent/base/mem.h"
#include "ipc/frame.h"
#include "ipc/payload.h"

#define UNIT_BYTES     31
#define PROTOCOL_KNOWN 1

static int read_role(json_t *object, const char *fallback, const char **ret,
                     const struct payload *p) {
    static const char *const roles[] = {"primary", "worker", "agent", "process", "thread"};
    json_t *v = json_object_get(object, "role");

    if (v == NULL && fallback != NULL) {
        *ret = fallback;
        return 0;
    }
    for (size_t i = 0; json_is_string(v) && i < ARRAY_LEN(roles); i++)
        if (strcmp(json_string_value(v), roles[i]) == 0) {
            *ret = roles[i];
            return 0;
        }
    return payload_refuse(p, "role: primary, worker, agent, process or thread is %s",
                          v == NULL ? "required" : "accepted");
}

/* --- fields of a hello --------------------------------------------------------------------------------------------------- */

struct attributes {
    const char *pairs[2 * LIMIT_ATTRIBUTES]; /* keys are jansson's, values point into `values` */
    char values[LIMIT_ATTRIBUTES][LIMIT_NAME_BYTES + 1];
    size_t n;
};

/* Values stand in keys like name{a=b,c=d}: what could be mistaken for one becomes "_", one for each character. */
static void copy_attribute(char *out, const char *s) {
    size_t at = 0;

    for (; *s != '\0'; s += payload_utf8_bytes(*s))
        out[at++] = payload_is_alnum(*s) || strchr("._-:/", *s) != NULL ? *s : '_';
    out[at] = '\0';
}

static int read_attributes(json_t *field, struct attributes *ret, const struct payload *p) {
    json_t *object = json_object_get(field, "attributes"), *value;
    const char *key;

    ret->n = 0;
    if (object == NULL)
        return 0;
    if (!json_is_object(object) || json_object_size(object) > LIMIT_ATTRIBUTES)
        return payload_refuse(p, "attributes: an object of at most %d strings is accepted",
                              LIMIT_ATTRIBUTES);
    json_object_foreach(object, key, value) {
        size_t len = json_string_length(value);

        if (!payload_is_name(key))
            return payload_refuse(
                p, "attributes: keys of 1 to %d letters, digits, . and _ are accepted",
                LIMIT_NAME_BYTES);
        if (!json_is_string(value) || len < 1 || len > LIMIT_NAME_BYTES)
            return payload_refuse(p, "attributes.%.40s: a string of 1 to %d bytes is accepted", key,
                                  LIMIT_NAME_BYTES);
        copy_attribute(ret->values[ret->n], json_string_value(value));
        ret->pairs[2 * ret->n] = key;
        ret->pairs[2 * ret->n + 1] = ret->values[ret->n];
        ret->n++;
    }
    return 0;
}

static int read_kind(json_t *field, enum field_kind *ret, const struct payload *p) {
    static const char *const kinds[] = {
        [FIELD_GAUGE] = "gauge", [FIELD_COUNTER] = "counter", [FIELD_HISTOGRAM] = "histogram"};
    json_t *v = json_object_get(field, "kind");

    for (size_t i = 0; json_is_string(v) && i < ARRAY_LEN(kinds); i++)
        if (strcmp(json_string_value(v), kinds[i]) == 0) {
            *ret = (enum field_kind)i;
            return 0;
        }
    return payload_refuse(p, "kind: gauge, counter or histogram is %s",
                          v == NULL ? "required" : "accepted");
}

static int read_bounds(json_t *field, enum field_kind kind, double *ret, size_t *ret_n,
                       const struct payload *p) {
    json_t *v = json_object_get(field, "bounds");
    size_t n = json_array_size(v);

    *ret_n = 0;
    if (kind != FIELD_HISTOGRAM)
        return v == NULL ? 0 : payload_refuse(p, "bounds: accepted for a histogram only");
    if (!json_is_array(v) || n < 1 || n > LIMIT_BOUNDS)
        return payload_refuse(p, "bounds: an array of 1 to %d rising numbers is required",
                              LIMIT_BOUNDS);
    for (size_t i = 0; i < n; i++) {
        json_t *bound = json_array_get(v, i);

        ret[i] = json_number_value(bound);
        if (!json_is_number(bound) || (i > 0 && !(ret[i] > ret[i - 1])))
            return payload_refuse(p, "bounds[%zu]: a number above the one before it is accepted",
                                  i);
    }
    *ret_n = n;
    return 0;
}

static int read_unit(json_t *field, const char **ret, const struct payload *p) {
    json_t *v = json_object_get(field, "unit");
    const char *unit = json_string_value(v);
    size_t len = json_string_length(v);
    bool good = unit != NULL && len >= 1 && len <= UNIT_BYTES;

    for (size_t i = 0; good && i < len; i++)
        good = unit[i] > ' ' && unit[i] <= '~' && unit[i] != '"' && unit[i] != '\\';
    if (!good)
        return payload_refuse(p, "unit: a UCUM unit of 1 to %d printable characters is %s",
                              UNIT_BYTES, v == NULL ? "required" : "accepted");
    *ret = unit;
    return 0;
}

static int read_field(json_t *field, struct schema *s, const struct payload *p) {
    const char *name = json_string_value(json_object_get(field, "name")), *unit = NULL;
    double bounds[LIMIT_BOUNDS];
    struct attributes attributes;
    enum field_kind kind = FIELD_GAUGE;
    size_t n_bounds = 0;
    int rc;

    if (!json_is_object(field))
        return payload_refuse(p, "an object is accepted");
    if (name == NULL || !payload_is_name(name))
        return payload_refuse(p, "name: 1 to %d letters, digits, . and _ are required",
                              LIMIT_NAME_BYTES);
    rc = read_attributes(field, &attributes, p);
    if (rc == 0)
        rc = read_unit(field, &unit, p);
    if (rc == 0)
        rc = read_kind(field, &kind, p);
    if (rc == 0)
        rc = read_bounds(field, kind, bounds, &n_bounds, p);
    if (rc != 0)
        return rc;
    if (s->n_slots + (kind == FIELD_HISTOGRAM ? n_bounds + 2 : 1) > LIMIT_SLOTS)
        return payload_refuse(p, "a layout of at most %d slots is accepted", LIMIT_SLOTS);
    rc = schema_add(s, name, attributes.pairs, attributes.n, unit, kind, bounds, n_bounds);
    if (rc == -EINVAL)
        return payload_refuse(p, "name %.60s with these attributes is there already", name);
    return rc;
}

static int read_fields(json_t *root, struct schema **ret, struct payload *p) {
    json_t *fields = json_object_get(root, "fields");
    size_t n = json_array_size(fields);
    struct schema *s = NULL;
    int rc;

    if (!json_is_array(fields) || n < 1 || n > LIMIT_FIELDS)
        return payload_refuse(p, "fields: an array of 1 to %d objects is required", LIMIT_FIELDS);
    rc = schema_new(&s, n);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        (void)snprintf(p->where, sizeof(p->where), "fields[%zu].", i);
        rc = read_field(json_array_get(fields, i), s, p);
    }
    p->where[0] = '\0';
    if (rc != 0) {
        schema_unref(s);
        return rc;
    }
    *ret = schema_intern(s);
    return 0;
}

/* --- hello --------------------------------------------------------------------------------------------------------------- */

static int read_protocol(json_t *root, unsigned *ret, const struct payload *p) {
    json_t *versions = json_object_get(root, "protocol"), *v;
    bool known = false;
    size_t i;

    if (!json_is_array(versions) || json_array_size(versions) == 0)
        return payload_refuse(p, "protocol: an array of at least one integer is required");
    json_array_foreach(versions, i, v) {
        if (!json_is_integer(v))
            return payload_refuse(p, "protocol[%zu]: an integer is accepted", i);
        known = known || json_integer_value(v) == PROTOCOL_KNOWN;
    }
    if (!known) {
        (void)payload_refuse(p, "protocol: version %d is accepted, the worker does not speak it",
                             PROTOCOL_KNOWN);
        return -EPROTONOSUPPORT;
    }
    *ret = PROTOCOL_KNOWN;
    return 0;
}

static int read_numbers(json_t *root, struct hello *h, const struct payload *p) {
    json_int_t pid = 0, ppid = 0, start = 0, thread = 0, next = 0;
    int rc = payload_integer(root, "pid", 1, INT_MAX, -1, &pid, p);

    if (rc == 0)
        rc = payload_integer(root, "start", 0, LLONG_MAX, -1, &start, p);
    if (rc == 0)
        rc = payload_integer(root, "ppid", 0, INT_MAX, 0, &ppid, p);
    if (rc == 0)
        rc = payload_integer(root, "thread", 0, UINT32_MAX, 0, &thread, p);
    if (rc == 0)
        rc = payload_integer(root, "next", 1, LLONG_MAX, -1, &next, p);
    if (rc != 0)
        return rc;
    h->pid = (pid_t)pid;
    h->start_ticks = (uint64_t)start;
    h->ppid = (pid_t)ppid;
    h->thread = (uint32_t)thread;
    h->next = (uint64_t)next;
    return 0;
}

int message_read_hello(const char *json, size_t len, struct hello *ret, char *why) {
    struct payload p = {.why = why};
    struct hello h = {0};
    json_t *root = NULL;
    int rc;

    why[0] = '\0';
    rc = payload_object(json, len, &root, &p);
    if (rc == 0)
        rc = read_protocol(root, &h.protocol, &p);
    if (rc == 0)
        rc = read_numbers(root, &h, &p);
    if (rc == 0)
        rc = read_role(root, "process", &h.role, &p);
    if (rc == 0)
        rc = payload_label(root, "title", false, h.title, sizeof(h.title), &p);
    if (rc == 0)
        rc = payload_label(root, "node", false, h.node, sizeof(h.node), &p);
    if (rc == 0)
        rc = payload_label(root, "app", false, h.app, sizeof(h.app), &p);
    if (rc == 0)
        rc = read_fields(root, &h.schema, &p);
    json_decref(root);
    if (rc == 0)
        *ret = h;
    return rc;
}

void message_clear_hello(struct hello *h) {
    schema_unref(h->schema);
    h->schema = NULL;
}

/* --- events -------------------------------------------------------------------------------------------------------------- */

/* By name, as Node.js gives them, and not by the C library's list, which differs. The numbers are those of this machine. */
static const struct {
    const char *name;
    int number;
} signals[] = {
    {"SIGHUP", 1},     {"SIGINT", 2},   {"SIGQUIT", 3},  {"SIGILL", 4},     {"SIGTRAP", 5},
    {"SIGABRT", 6},    {"SIGBUS", 7},   {"SIGFPE", 8},   {"SIGKILL", 9},    {"SIGUSR1", 10},
    {"SIGSEGV", 11},   {"SIGUSR2", 12}, {"SIGPIPE", 13}, {"SIGALRM", 14},   {"SIGTERM", 15},
    {"SIGSTKFLT", 16}, {"SIGXCPU", 24}, {"SIGXFSZ", 25}, {"SIGVTALRM", 26}, {"SIGPROF", 27},
    {"SIGIO", 29},     {"SIGPWR", 30},  {"SIGSYS", 31},
};

/* 0 where there is none: null, or no such key. */
static int read_signal(json_t *root, int *ret, const struct payload *p) {
    json_t *v = json_object_get(root, "signal");

    if (v == NULL || json_is_null(v)) {
        *ret = 0;
        return 0;
    }
    if (json_is_integer(v) && json_integer_value(v) >= 1 && json_integer_value(v) <= 64) {
        *ret = (int)json_integer_value(v);
        return 0;
    }
    for (size_t i = 0; json_is_string(v) && i < ARRAY_LEN(signals); i++)
        if (strcmp(json_string_value(v), signals[i].name) == 0) {
            *ret = signals[i].number;
            return 0;
        }
    return payload_refuse(p, "signal: a name like SIGKILL or a number from 1 to 64 is accepted");
}

/* The status as the kernel hands it to the parent: eight bits. */
static int read_code(json_t *root, int *ret, const struct payload *p) {
    json_int_t code = 0;
    int rc = payload_integer(root, "code", INT_MIN, INT_MAX, -1, &code, p);

    if (rc == 0)
        *ret = (int)((uint64_t)code & 0xff);
    return rc;
}

static int read_exit(json_t *root, struct worker_event *e, const struct payload *p) {
    int rc = read_code(root, &e->code, p);

    if (rc == 0)
        rc = payload_label(root, "reason", false, e->reason, sizeof(e->reason), p);
    if (rc == 0)
        rc = payload_label(root, "message", false, e->message, sizeof(e->message), p);
    return rc;
}

static int read_child_exit(json_t *root, struct worker_event *e, const struct payload *p) {
    json_t *code = json_object_get(root, "code");
    json_int_t pid = 0;
    int rc = payload_integer(root, "pid", 1, INT_MAX, -1, &pid, p);

    if (rc == 0)
        rc = read_signal(root, &e->signal, p);
    if (rc != 0)
        return rc;
    e->pid = (pid_t)pid;
    e->code = -1;
    if (code == NULL || json_is_null(code))
        return e->signal != 0 ? 0 : payload_refuse(p, "code: one of code and signal is required");
    if (e->signal != 0)
        return payload_refuse(p, "signal: only one of code and signal is accepted");
    return read_code(root, &e->code, p);
}

static int read_role_event(json_t *root, struct worker_event *e, const struct payload *p) {
    return read_role(root, NULL, &e->role, p);
}

static int read_dropped(json_t *root, struct worker_event *e, const struct payload *p) {
    json_int_t samples = 0;
    int rc = payload_integer(root, "samples", 0, LLONG_MAX, -1, &samples, p);

    if (rc == 0)
        e->samples = (uint64_t)samples;
    return rc;
}

static int read_note(json_t *root, struct worker_event *e, const struct payload *p) {
    int rc = payload_label(root, "what", true, e->reason, sizeof(e->reason), p);

    if (rc == 0)
        rc = payload_label(root, "why", false, e->message, sizeof(e->message), p);
    return rc;
}

static const struct {
    const char *name;
    int (*read)(json_t *root, struct worker_event *e, const struct payload *p);
} events[] = {
    [EVENT_EXIT] = {"exit", read_exit},       [EVENT_CHILD_EXIT] = {"child_exit", read_child_exit},
    [EVENT_ROLE] = {"role", read_role_event}, [EVENT_DROPPED] = {"dropped", read_dropped},
    [EVENT_NOTE] = {"note", read_note},
};

int message_read_event(const char *json, size_t len, struct worker_event *ret, char *why) {
    struct payload p = {.why = why};
    struct worker_event e = {0};
    json_t *root = NULL;
    const char *name;
    size_t i = 0;
    int rc;

    why[0] = '\0';
    rc = payload_object(json, len, &root, &p);
    if (rc != 0)
        return rc;
    name = json_string_value(json_object_get(root, "event"));
    while (name != NULL && i < ARRAY_LEN(events) && strcmp(name, events[i].name) != 0)
        i++;
    if (name == NULL) {
        rc = payload_refuse(&p, "event: a string is required");
    } else if (i == ARRAY_LEN(events)) {
        rc = -ENOENT;
    } else {
        e.kind = (enum worker_event_kind)i;
        rc = events[i].read(root, &e, &p);
    }
    json_decref(root);
    if (rc == 0)
        *ret = e;
    return rc;
}

/* --- answers to orders --------------------------------------------------------------------------------------------------- */

int message_read_answer(const char *json, size_t len, uint64_t *ret_order, char *why) {
    struct payload p = {.why = why};
    json_t *root = NULL;
    json_int_t order = 0;
    int rc;

    why[0] = '\0';
    rc = payload_object(json, len, &root, &p);
    if (rc == 0)
        rc = payload_integer(root, "order", 1, LLONG_MAX, -1, &order, &p);
    json_decref(root);
    if (rc == 0)
        *ret_order = (uint64_t)order;
    return rc;
}

/* --- what the helper says ------------------------------------------------------------------------------------------------ */

/* The length is known only at the end, so the header is written over its place then. Returns where the frame starts. */
static size_t begin_frame(struct buf *out) {
    static const uint8_t place[FRAME_HEADER_BYTES];
    size_t at = out->len;

    buf_add(out, place, sizeof(place));
    return at;
}

/* Without memory nothing of the frame stays behind, and `out->err` tells. */
static void end_frame(struct buf *out, size_t at, enum frame_type type) {
    uint8_t header[FRAME_HEADER_BYTES];

    if (out->err != 0) {
        out->len = at;
        return;
    }
    frame_put_header(header, (uint8_t)type, (uint32_t)(out->len - at - sizeof(header)));
    memcpy(out->data + at, header, sizeof(header));
}

void message_write_welcome(struct buf *out, const struct welcome *w) {
    size_t at = begin_frame(out);

    buf_printf(out, "{\"protocol\":%d,\"interval_ms\":", PROTOCOL_KNOWN);
    buf_u64(out, w->interval_ms);
    buf_puts(out, ",\"beat_ms\":");
    buf_u64(out, w->beat_ms);
    buf_puts(out, ",\"hold_bytes\":");
    buf_u64(out, w->hold_bytes);
    buf_puts(out, ",\"stored\":");
    buf_u64(out, w->stored);
    buf_putc(out, '}');
    end_frame(out, at, FRAME_WELCOME);
}

void message_write_ack(struct buf *out, uint64_t number) {
    uint8_t frame[FRAME_HEADER_BYTES + sizeof(number)];

    frame_put_header(frame, FRAME_ACK, sizeof(number));
    frame_put_u64(frame + FRAME_HEADER_BYTES, number);
    buf_add(out, frame, sizeof(frame));
}

void message_write_later(struct buf *out, uint64_t after_ms, const char *reason) {
    size_t at = begin_frame(out);

    buf_puts(out, "{\"after_ms\":");
    buf_u64(out, after_ms);
    buf_puts(out, ",\"reason\":");
    buf_json_string(out, reason);
    buf_putc(out, '}');
    end_frame(out, at, FRAME_LATER);
}

void message_write_refused(struct buf *out, const char *reason) {
    size_t at = begin_frame(out);

    buf_puts(out, "{\"reason\":");
    buf_json_string(out, reason);
    buf_putc(out, '}');
    end_frame(out, at, FRAME_REFUSED);
}

void message_write_order(struct buf *out, const char *json, size_t len) {
    size_t at = begin_frame(out);

    buf_add(out, json, len);
    end_frame(out, at, FRAME_ORDER);
}
