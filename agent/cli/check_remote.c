/* What is asked changes nothing there:
 *
 *     hub    GET /v1/batches      any answer but 3xx, 401, 403, 407 and 5xx is fine: a hub need not answer to GET
 *     es     GET /                says what it is, and which version
 *     otlp   POST /v1/metrics     an empty request is a valid one
 *
 * `hub:` without an address is found through the registry, whose check is another. */
#include "agent/cli/check_remote.h"

#include <errno.h>
#include <jansson.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/answer.h"
#include "uploader/http.h"
#include "uploader/url.h"

#define PROBE_MS   10000
#define WHY_BYTES  1024
#define ITEM_BYTES 4200

struct kind {
    const char *scheme; /* with its "+" */
    const char *path;
    const char *type; /* of the empty body that is posted; NULL: GET */
};

static const struct kind kinds[] = {
    {"hub+", "/v1/batches", NULL},
    {"es+", "/", NULL},
    {"otlp+", "/v1/metrics", "Content-Type: application/x-protobuf"},
};

struct probe {
    struct report *report;
    const struct kind *kind;
    struct url url;
    char name[URL_SHOW_BYTES + 8];
};

static const char *advice_for(const struct http_reply *reply) {
    switch (reply->rc) {
    case 0:
        break;
    case -EBADE:
    case -EKEYEXPIRED:
        return "Authorities of your own: PILLION_CA_FILE.";
    case -EKEYREJECTED:
        return "PILLION_CERT_FILE and PILLION_KEY_FILE, or http:// in place of https://.";
    case -ENOENT:
        return "Is the name right, and is there a name server (/etc/resolv.conf)?";
    default:
        return "Batches wait until it answers; the oldest go when there is no room left.";
    }
    if (reply->status == 401 || reply->status == 403)
        return "user:password@ in the address, or PILLION_SINK_TOKEN.";
    return "Batches wait until it takes them.";
}

/* "OpenSearch 2.19.4" out of the answer to GET /; false: it is something else. */
static bool product(const struct http_reply *reply, char *out, size_t size) {
    json_t *o = json_loadb(reply->body, reply->len, JSON_REJECT_DUPLICATES, NULL);
    const json_t *version = json_object_get(o, "version");
    const char *number = json_string_value(json_object_get(version, "number"));
    const char *distribution = json_string_value(json_object_get(version, "distribution"));

    if (number != NULL)
        (void)snprintf(out, size, "%s %s",
                       distribution != NULL && strcmp(distribution, "opensearch") == 0
                           ? "OpenSearch"
                           : "Elasticsearch",
                       number);
    json_decref(o);
    return number != NULL;
}

static bool is_fine(const struct probe *p, const struct http_reply *reply) {
    if (reply->rc != 0)
        return false;
    if (strcmp(p->kind->scheme, "hub+") == 0)
        return reply->status < 500 && answer_meaning(reply) != ANSWER_SETTLE
                   ? true
                   : reply->status == 404 || reply->status == 405;
    return reply->status / 100 == 2;
}

static void on_reply(void *arg, const struct http_reply *reply) {
    struct probe *p = arg;
    char text[400], what[100] = "it answers";

    if (!is_fine(p, reply)) {
        answer_text(reply, text, sizeof(text));
        report_add(p->report, REPORT_FAIL, "sink", advice_for(reply), "%s: %s", p->name, text);
    } else if (strcmp(p->kind->scheme, "es+") == 0 && !product(reply, what, sizeof(what))) {
        report_add(p->report, REPORT_FAIL, "sink", "Is the address right?",
                   "%s: answers, but is not Elasticsearch or OpenSearch", p->name);
    } else {
        report_add(p->report, REPORT_OK, "sink", NULL, "%s: %s", p->name, what);
    }
    url_clear(&p->url);
}

static void path_of(const struct probe *p, char *out, size_t size) {
    /* The last part is the name of the index. */
    char *slash = strcmp(p->kind->scheme, "es+") == 0 ? strrchr(p->url.path, '/') : NULL;

    if (slash != NULL)
        *slash = '\0';
    (void)url_format(&p->url, p->kind->path, out, size); /* fitted before, with more */
}

static int ask(struct http *http, struct probe *p, const struct config *config) {
    const char *headers[] = {p->kind->type, NULL};
    struct http_request_out rq = {.headers = headers, .total_ms = PROBE_MS, .done = on_reply};
    char url[URL_SHOW_BYTES], shown[URL_SHOW_BYTES];

    if (url_format(&p->url, "/v1/batches", shown, sizeof(shown)) != 0)
        return -ENAMETOOLONG;
    (void)url_format(&p->url, "", shown, sizeof(shown));
    (void)snprintf(p->name, sizeof(p->name), "%s%s", p->kind->scheme, shown);
    path_of(p, url, sizeof(url));
    rq.url = url;
    rq.user = p->url.user;
    rq.password = p->url.password;
    rq.bearer = p->url.user == NULL ? config->sink_token : NULL;
    rq.body = p->kind->type != NULL ? "" : NULL;
    rq.arg = p;
    return http_send(http, &rq, NULL);
}

/* Fills *p when the item is the address of a remote sink. */
static bool is_remote(struct probe *p, const char *item) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (!text_starts(item, kinds[i].scheme))
            continue;
        p->kind = &kinds[i];
        return url_parse(&p->url, item + strlen(kinds[i].scheme)) == 0;
    }
    return false;
}

static unsigned ask_all(struct report *r, struct http *http, struct probe *probes,
                        const struct config *config) {
    char item[ITEM_BYTES];
    unsigned n = 0;
    size_t len;

    for (const char *p = config->sink; *p != '\0' && n < LIMIT_SINKS; p += len + (p[len] == ',')) {
        struct probe *probe = &probes[n];

        len = strcspn(p, ",");
        (void)text_copy(item, len < sizeof(item) ? len + 1 : sizeof(item), p);
        *probe = (struct probe){.report = r};
        if (!is_remote(probe, item))
            continue;
        n++;
        if (ask(http, probe, config) != 0) {
            report_add(r, REPORT_FAIL, "sink", NULL, "%s: could not be asked", probe->name);
            url_clear(&probe->url);
        }
    }
    return n;
}

static void on_closed(void *arg) {
    (void)arg;
}

static bool any_remote(const char *list) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (strstr(list, kinds[i].scheme) != NULL)
            return true;
    return false;
}

void check_remote_sinks(struct report *r, const struct config *config) {
    struct http_tls tls = {
        .ca_file = config->ca_file, .cert_file = config->cert_file, .key_file = config->key_file};
    struct probe probes[LIMIT_SINKS];
    struct http *http = NULL;
    struct buf why;
    uv_loop_t loop;

    if (!any_remote(config->sink) || uv_loop_init(&loop) != 0)
        return;
    buf_init(&why, WHY_BYTES);
    if (http_new(&http, &loop, &tls, &why) != 0) {
        report_add(r, REPORT_FAIL, "sink", NULL, "%s", why.len > 0 ? why.data : "no memory");
    } else {
        (void)ask_all(r, http, probes, config);
        while (http_calls(http) > 0)
            (void)uv_run(&loop, UV_RUN_ONCE);
        http_close(http, on_closed, NULL);
    }
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&loop); /* nothing is open */
    buf_clear(&why);
}
