#include <inttypes.h>
#include <math.h>
#include <sysexits.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/cli/cli.h"
#include "agent/cli/client.h"
#include "agent/human.h"

static const char help[] =
    "usage: pillion status [--json]\n\n"
    "How the helper is and what it has done: its cost, the container, the sinks, what went "
    "wrong.\n\n"
    "  --json   the page /status of the status socket as it is\n\n"
    "Examples:\n"
    "  pillion status\n"
    "  pillion status --json | jq .counters.samples_received\n"
    "  curl --unix-socket /run/pillion/status.sock http://localhost/status\n\n"
    "Ends with 69 when no helper answers, 77 without permission.\n";

static void put_line(struct buf *out, const char *key, const char *text) {
    buf_printf(out, "%-10s ", key);
    human_cell(out, text, 400, false, true);
    buf_putc(out, '\n');
}

static void put_head(struct buf *out, const json_t *s) {
    const json_t *h = json_object_get(s, "helper");
    char up[HUMAN_BYTES], memory[HUMAN_BYTES], cpu[HUMAN_BYTES], lag[HUMAN_BYTES], line[512];

    human_seconds(client_number(s, "uptime"), up);
    human_bytes(client_number(h, "memory_bytes"), memory);
    human_percent(client_number(h, "cpu"), cpu);
    human_seconds(client_number(h, "loop_lag_max_seconds"), lag);
    (void)snprintf(line, sizeof(line), "%s on %s", client_string(s, "app"),
                   client_string(s, "instance"));
    put_line(out, "app", line);
    (void)snprintf(line, sizeof(line),
                   "version %s, pid %.0f, up %s; %s resident, CPU %s%%, longest "
                   "turn of its loop %s",
                   client_string(s, "version"), client_number(h, "pid"), up, memory, cpu, lag);
    put_line(out, "helper", line);
}

static void put_container(struct buf *out, const json_t *s) {
    const json_t *c = json_object_get(s, "container");
    double limit = client_number(c, "pillion.container.memory.limit");
    char share[HUMAN_BYTES], used[HUMAN_BYTES], of[HUMAN_BYTES], throttled[HUMAN_BYTES];
    char kills[HUMAN_BYTES], line[512];

    human_percent(client_number(c, "pillion.container.cpu.limit_utilization"), share);
    human_bytes(client_number(c, "container.memory.working_set"), used);
    human_bytes(limit, of);
    human_seconds(client_number(c, "pillion.container.cpu.throttled_time"), throttled);
    human_number(client_number(c, "pillion.container.memory.oom_kills"), kills);
    (void)snprintf(
        line, sizeof(line),
        "cgroup %s; CPU %s%% of what it may use, throttled %s; memory %s%s%s, OOM kills %s",
        client_string(c, "cgroup"), share, throttled, used, isfinite(limit) ? " of " : ", no limit",
        isfinite(limit) ? of : "", kills);
    put_line(out, "container", line);
}

static void put_workers(struct buf *out, const json_t *s) {
    static const char *const states[] = {"live", "blocked", "silent", "gone"};
    const json_t *w = json_object_get(s, "workers");
    char line[256] = "";
    size_t at = 0;

    for (size_t i = 0; i < ARRAY_LEN(states); i++)
        at += (size_t)snprintf(line + at, sizeof(line) - at, "%s%.0f %s", i > 0 ? ", " : "",
                               client_number(w, states[i]), states[i]);
    put_line(out, "workers", line);
}

static void put_sinks(struct buf *out, const json_t *s) {
    const json_t *sinks = json_object_get(s, "sinks"), *sink;
    size_t i;

    json_array_foreach(sinks, i, sink) {
        const char *error = client_string(sink, "last_error"),
                   *last = client_string(sink, "last_success");
        char line[1024];

        (void)snprintf(
            line, sizeof(line), "%s: %s, %.0f sent, %.0f waiting, %.0f dropped, last %s%s%s",
            client_string(sink, "sink"), client_string(sink, "state"), client_number(sink, "sent"),
            client_number(sink, "backlog"), client_number(sink, "dropped"),
            last[0] != '\0' ? last : "never", error[0] != '\0' ? "; last error: " : "", error);
        put_line(out, "sink", line);
    }
}

/* Counters that stay at 0 as long as all is well would only be in the way. */
static void put_counters(struct buf *out, const json_t *s) {
    json_t *counters = json_object_get(s, "counters"), *v;
    const char *name;

    buf_puts(out, "counters  ");
    json_object_foreach(counters, name, v) {
        if (json_integer_value(v) == 0)
            continue;
        buf_printf(out, " %s=%" JSON_INTEGER_FORMAT, name, json_integer_value(v));
    }
    buf_putc(out, '\n');
}

static void put_warnings(struct buf *out, const json_t *s) {
    const json_t *warnings = json_object_get(s, "warnings"), *w;
    size_t i;

    json_array_foreach(warnings, i, w) {
        double times = client_number(w, "times");
        char line[1024], more[32] = "";

        if (times > 1)
            (void)snprintf(more, sizeof(more), " (%.0f times)", times);
        (void)snprintf(line, sizeof(line), "%s %s%s", client_string(w, "time"),
                       client_string(w, "message"), more);
        put_line(out, "warning", line);
    }
}

static int print_text(struct client *c) {
    json_t *s = NULL;
    struct buf out;
    int rc = client_get_json(c, "/status", &s);

    if (rc != EX_OK)
        return rc;
    buf_init(&out, LIMIT_HTTP_PAGE_BYTES);
    put_head(&out, s);
    put_container(&out, s);
    put_workers(&out, s);
    put_sinks(&out, s);
    put_counters(&out, s);
    put_warnings(&out, s);
    json_decref(s);
    rc = client_print(&out);
    buf_clear(&out);
    return rc;
}

static int print_json(struct client *c) {
    struct buf body;
    int rc;

    buf_init(&body, LIMIT_HTTP_PAGE_BYTES);
    rc = client_get(c, "/status", &body);
    if (rc == EX_OK)
        rc = client_print(&body);
    buf_clear(&body);
    return rc;
}

int cli_status_main(int argc, char **argv, char *const *env) {
    struct client c;
    bool json = false;
    int rc = client_arguments(argc, argv, help, &json);

    if (rc >= 0)
        return rc;
    rc = client_open(&c, argv[0], env);
    if (rc == EX_OK)
        rc = json ? print_json(&c) : print_text(&c);
    client_close(&c);
    return rc;
}
