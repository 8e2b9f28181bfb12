#include "agent/api.h"

#include <errno.h>

#include "agent/base/counters.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define JSON_TYPE     "application/json"
#define JOBS          "/v1/jobs/"
#define RETRY_AFTER_S 10
#define ERROR_BYTES   4096

void api_error(struct http_answer *ret, unsigned status, const char *why) {
    struct buf out;

    buf_init(&out, ERROR_BYTES);
    buf_puts(&out, "{\"error\":");
    buf_json_string(&out, why);
    buf_puts(&out, "}\n");
    *ret = (struct http_answer){.status = status, .content_type = JSON_TYPE};
    if (status == 429 || status == 503)
        ret->retry_after_s = RETRY_AFTER_S;
    if (status == 401)
        ret->authenticate = "Bearer";
    if (out.err == 0)
        ret->body = buf_take(&out, &ret->body_len);
    buf_clear(&out);
}

static void answer(struct http_answer *ret, unsigned status, struct buf *out) {
    if (out->err != 0) {
        counter_add(COUNTER_OUT_OF_MEMORY, out->err == -ENOMEM);
        api_error(ret, out->err == -ENOMEM ? 503 : 500,
                  out->err == -ENOMEM ? "no memory for this page right now"
                                      : "the page is larger than it may be");
    } else {
        *ret = (struct http_answer){.status = status, .content_type = JSON_TYPE};
        ret->body = buf_take(out, &ret->body_len);
    }
    buf_clear(out);
}

/* --- /v1/commands --- */

static void refuse(struct http_answer *ret, int rc, const char *why) {
    unsigned status = 503;

    counter_add(COUNTER_COMMANDS_REFUSED, 1);
    if (rc == -EINVAL)
        status = 400;
    else if (rc == -ESRCH)
        status = 404;
    else if (rc == -EAGAIN)
        status = 429;
    api_error(ret, status, why[0] != '\0' ? why : strerror(-rc));
}

static void take_command(struct jobs *jobs, const struct api_asker *asker,
                         const struct http_request *rq, struct http_answer *ret) {
    char why[COMMAND_WHY_BYTES] = "";
    struct command command;
    bool is_new = false;
    struct buf out;
    size_t len;
    const char *body = http_body(rq, &len);
    int rc = command_read(body != NULL ? body : "", len, &command, why);

    if (rc == 0 && asker->needs_id && command.id[0] == '\0') {
        (void)snprintf(why, sizeof(why),
                       "id: required in a signed command, so that it is taken only once");
        rc = -EINVAL;
    }
    if (rc == 0 && !asker->here)
        command.hold = false; /* what is held is for readers of this machine */
    if (rc == 0)
        rc = jobs_command(jobs, &command, "command", &is_new, why);
    if (rc != 0) {
        refuse(ret, rc, why);
        return;
    }
    buf_init(&out, LIMIT_HTTP_PAGE_BYTES);
    (void)jobs_write_one(jobs, command.id, asker->here, &out); /* it is there */
    answer(ret, is_new ? 202 : 200, &out);
}

/* --- /v1/jobs --- */

static void show_jobs(struct jobs *jobs, struct http_answer *ret) {
    struct buf out;

    buf_init(&out, LIMIT_HTTP_PAGE_BYTES);
    jobs_write_all(jobs, &out);
    answer(ret, 200, &out);
}

static void show_job(struct jobs *jobs, const struct api_asker *asker, const char *id,
                     unsigned status, struct http_answer *ret) {
    struct buf out;

    buf_init(&out, LIMIT_HTTP_PAGE_BYTES);
    if (jobs_write_one(jobs, id, asker->here, &out) == 0) {
        answer(ret, status, &out);
        return;
    }
    buf_clear(&out);
    api_error(ret, 404,
              "no job or command has this id (any more); GET /v1/jobs has those that are known");
}

static void cancel_job(struct jobs *jobs, const struct api_asker *asker, const char *id,
                       struct http_answer *ret) {
    int rc = jobs_cancel(jobs, id);

    show_job(jobs, asker, id, rc == 0 ? 202 : 200, ret); /* ended already: as it is */
}

bool api_handle(struct jobs *jobs, const struct api_asker *asker, const struct http_request *rq,
                const char *method, const char *path, struct http_answer *ret) {
    bool commands = strcmp(path, "/v1/commands") == 0, all = strcmp(path, "/v1/jobs") == 0;
    bool one = text_starts(path, JOBS) && path[strlen(JOBS)] != '\0';
    bool get = strcmp(method, "GET") == 0;

    if (!commands && !all && !one)
        return false;
    if (jobs == NULL)
        api_error(ret, 503, "the helper is starting or stopping");
    else if (commands && strcmp(method, "POST") == 0)
        take_command(jobs, asker, rq, ret);
    else if (all && get)
        show_jobs(jobs, ret);
    else if (one && get)
        show_job(jobs, asker, path + strlen(JOBS), 200, ret);
    else if (one && strcmp(method, "DELETE") == 0)
        cancel_job(jobs, asker, path + strlen(JOBS), ret);
    else {
        api_error(ret, 405, commands ? "a command is sent by POST" : "this cannot be done here");
        ret->allow = commands ? "POST" : all ? "GET, HEAD" : "GET, HEAD, DELETE";
    }
    return true;
}
