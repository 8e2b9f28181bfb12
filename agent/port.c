#include "agent/port.h"

#include <errno.h>

#include "agent/api.h"
#include "agent/authority.h"
#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"

#define AGAIN_MS     60000
#define LOG_EVERY_MS 10000

struct port {
    struct port_env env;
    struct http_server *http;
    char ip[CONFIG_IP_BYTES];
    uint16_t number;
    int error; /* of the last attempt to listen; 0: it listens */
    uint64_t tried_ms;
    uint64_t log_refused;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* --- requests ----------------------------------------------------------------------------------------------------------------- */

static void answer_health(struct http_answer *ret) {
    *ret = (struct http_answer){.status = 200, .body = mem_strdup("ok\n")};
    ret->body_len = ret->body != NULL ? strlen(ret->body) : 0;
}

static unsigned check(struct port *p, const struct http_request *rq, const char *method,
                      bool *ret_signed, char *why) {
    struct authority_request a = {
        .from = http_request_from(rq),
        .authorization = http_header(rq, "Authorization"),
        .signature = http_header(rq, "Pillion-Signature"),
        .method = method,
        .target = http_target(rq),
    };
    unsigned status;

    a.body = http_body(rq, &a.body_len);
    status = authority_check(&a, p->env.config->token, clock_wall_ms() / 1000, ret_signed, why);
    if (status == 0)
        return 0;
    counter_add(COUNTER_COMMANDS_UNAUTHORISED, 1);
    if (log_due(&p->log_refused, LOG_EVERY_MS))
        log_warn("command port: a request from %s is refused: %s",
                 a.from == HTTP_FROM_LOOPBACK ? "this machine" : "the network", why);
    return status;
}

static void on_request(void *arg, const struct http_request *rq, const char *method,
                       const char *path, struct http_answer *ret) {
    struct port *p = arg;
    char why[AUTHORITY_WHY_BYTES];
    struct api_asker asker = {.here = false};
    unsigned status;

    if (strcmp(path, "/healthz") == 0 && strcmp(method, "GET") == 0) {
        answer_health(ret);
        return;
    }
    status = check(p, rq, method, &asker.needs_id, why);
    if (status != 0)
        api_error(ret, status, why);
    else if (api_handle(p->env.jobs, &asker, rq, method, path, ret))
        return;
    else if (strcmp(path, "/v1/workers") == 0) {
        p->env.pages(p->env.pages_arg, rq, method, path, ret);
        ret->keep_ms = 0; /* what is kept is given to the next without asking who it is */
    } else {
        api_error(ret, 404,
                  "no such page; there are /v1/commands, /v1/jobs, /v1/jobs/{id}, "
                  "/v1/workers and /healthz; the other pages are on the status socket");
    }
}

/* --- life ----------------------------------------------------------------------------------------------------------------------- */

static void on_server_closed(void *arg) {
    (void)arg;
}

static void try_to_listen(struct port *p) {
    int rc = http_server_new(&p->http, p->env.loop, on_request, p), before = p->error;

    if (rc == 0)
        rc = http_server_listen_tcp(p->http, p->ip, p->number);
    if (rc != 0 && p->http != NULL) {
        http_server_close(p->http, on_server_closed, NULL);
        p->http = NULL;
    }
    p->error = rc;
    p->tried_ms = clock_mono_ms();
    if (rc == 0 && before != 0)
        log_info("command port: listening at %s now", p->env.config->listen);
    else if (rc != 0 && rc != before)
        /* Without a token nobody could use it anyway. */
        log_line(p->env.config->token != NULL ? LOG_LEVEL_WARN : LOG_LEVEL_INFO,
                 "command port: cannot listen at PILLION_LISTEN=%s: %s; commands are taken on the "
                 "status socket alone, and it is tried again each minute",
                 p->env.config->listen, strerror(-rc));
}

int port_new(struct port **ret, const struct port_env *env) {
    struct port *p;

    *ret = NULL;
    if (strcmp(env->config->listen, "none") == 0)
        return 0;
    p = mem_calloc(1, sizeof(*p));
    if (p == NULL)
        return -ENOMEM;
    p->env = *env;
    if (config_listen(env->config->listen, p->ip, &p->number) == 0)
        try_to_listen(p);
    else
        p->error = -EINVAL; /* config.c has looked at it */
    *ret = p;
    return 0;
}

void port_tick(struct port *p, uint64_t now_ms) {
    if (p != NULL && p->http == NULL && now_ms - p->tried_ms >= AGAIN_MS)
        try_to_listen(p);
}

void port_status(const struct port *p, struct buf *out) {
    if (p == NULL) {
        buf_puts(out, "{\"listen\":\"none\",\"state\":\"none\",\"error\":null}");
        return;
    }
    buf_puts(out, "{\"listen\":");
    buf_json_string(out, p->env.config->listen);
    buf_printf(out,
               ",\"state\":\"%s\",\"token\":%s,\"error\":", p->error == 0 ? "listening" : "failed",
               p->env.config->token != NULL ? "true" : "false");
    if (p->error != 0)
        buf_json_string(out, strerror(-p->error));
    else
        buf_puts(out, "null");
    buf_putc(out, '}');
}

void port_stop(struct port *p) {
    if (p != NULL)
        p->env.jobs = NULL;
}

static void on_http_closed(void *arg) {
    struct port *p = arg;
    void (*closed)(void *arg) = p->closed;
    void *closed_arg = p->closed_arg;

    mem_free(p);
    closed(closed_arg);
}

void port_close(struct port *p, void (*closed)(void *arg), void *arg) {
    if (p == NULL) {
        closed(arg);
        return;
    }
    p->closed = closed;
    p->closed_arg = arg;
    if (p->http != NULL)
        http_server_close(p->http, on_http_closed, p);
    else
        on_http_closed(p);
}
