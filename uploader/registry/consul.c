/* consul.c - Consul's agent API (https://developer.hashicorp.com/consul/api-docs/agent/service, …/agent/check, …/health).
 *
 * The registration brings a TTL check that is passing at once; without "Status" it would be critical until the first pass, also
 * each time that it is repeated. `replace-existing-checks`: a check of an older version of us does not stay behind.
 * A pass that Consul does not know the check of is answered with 404, by versions before 1.11 with 500. */
#include <errno.h>

#include "agent/base/mem.h"
#include "uploader/registry/dialect.h"

#define TTL        "30s"
#define DEREGISTER "15m" /* after so long in critical state; Consul takes a minute at least */

static void put_scope(struct buf *path, const struct registry_scope *scope, char first) {
    const struct {
        const char *name, *value;
    } all[] = {{"ns", scope->namespace_}, {"partition", scope->partition}};

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if (all[i].value[0] == '\0')
            continue;
        buf_printf(path, "%c%s=", first, all[i].name);
        dialect_escape(path, all[i].value);
        first = '&';
    }
}

static void put(struct buf *b, const char *before, const char *value) {
    buf_puts(b, before);
    buf_json_string(b, value);
}

static void put_service(struct buf *b, const struct registration *r) {
    put(b, "{\"ID\":", r->id);
    buf_puts(b, ",\"Name\":\"" REGISTRY_SERVICE "\"");
    if (r->address[0] != '\0')
        put(b, ",\"Address\":", r->address);
    buf_printf(b, ",\"Port\":%u", (unsigned)r->port);
    put(b, ",\"Tags\":[", r->app);
    put(b, "],\"Meta\":{\"app\":", r->app);
    put(b, ",\"instance\":", r->instance);
    put(b, ",\"version\":", r->version);
    put(b, ",\"node\":", r->node);
    buf_printf(b, ",\"workers\":\"%u\",\"commands\":\"%s\"}", r->workers,
               r->commands ? "port" : "none");
    put(b, ",\"Check\":{\"CheckID\":", r->id);
    buf_puts(b, ",\"Name\":\"pillion is alive\",\"TTL\":\"" TTL "\",\"Status\":\"passing\","
                "\"DeregisterCriticalServiceAfter\":\"" DEREGISTER "\"}}");
}

static void consul_ask(enum registry_question what, const struct registration *r,
                       const struct registry_scope *scope, struct registry_ask *ret) {
    ret->method = "PUT";
    switch (what) {
    case REGISTRY_ASK_REGISTER:
        buf_puts(&ret->path, "/v1/agent/service/register?replace-existing-checks=true");
        put_scope(&ret->path, scope, '&');
        put_service(&ret->body, r);
        return;
    case REGISTRY_ASK_PASS:
        buf_puts(&ret->path, "/v1/agent/check/pass/");
        break;
    case REGISTRY_ASK_LEAVE:
        buf_puts(&ret->path, "/v1/agent/service/deregister/");
        break;
    }
    dialect_escape(&ret->path, r->id);
    put_scope(&ret->path, scope, '?');
}

static enum schedule_answer consul_judge(enum registry_question what, long status) {
    if (status >= 200 && status < 300)
        return SCHEDULE_DONE;
    if (what == REGISTRY_ASK_LEAVE && status == 404)
        return SCHEDULE_DONE;
    return what == REGISTRY_ASK_PASS && (status == 404 || status == 500) ? SCHEDULE_FORGOTTEN
                                                                         : SCHEDULE_REFUSED;
}

/* `stale`: any server may answer, also while there is no leader. */
static void consul_find(struct buf *path, const char *service, const struct registry_scope *scope,
                        uint64_t index, unsigned wait_s) {
    buf_puts(path, "/v1/health/service/");
    dialect_escape(path, service);
    buf_puts(path, "?passing=true&stale=true");
    if (scope->datacenter[0] != '\0') {
        buf_puts(path, "&dc=");
        dialect_escape(path, scope->datacenter);
    }
    put_scope(path, scope, '&');
    if (index == 0)
        return;
    buf_puts(path, "&index=");
    buf_u64(path, index);
    buf_printf(path, "&wait=%us", wait_s);
}

/* `passing` has left the others out already; a proxy or another version may not know it. */
static bool healthy(const json_t *checks) {
    const json_t *check;
    size_t i;

    json_array_foreach(checks, i, check) {
        if (strcmp(dialect_string(check, "Status"), "critical") == 0)
            return false;
    }
    return true;
}

static bool has_tag(const json_t *service, const char *tag) {
    const json_t *x;
    size_t i;

    json_array_foreach(json_object_get(service, "Tags"), i, x) {
        if (json_is_string(x) && strcmp(json_string_value(x), tag) == 0)
            return true;
    }
    return false;
}

static int consul_hubs(const char *body, size_t len, struct hubs *ret) {
    json_t *list = dialect_json(body, len), *entry;
    size_t i;

    if (!json_is_array(list)) {
        json_decref(list);
        return -EINVAL;
    }
    json_array_foreach(list, i, entry) {
        const json_t *service = json_object_get(entry, "Service");
        const char *address = dialect_string(service, "Address");
        bool tls = has_tag(service, "https") ||
                   strcmp(dialect_string(json_object_get(service, "Meta"), "scheme"), "https") == 0;

        if (*address == '\0')
            address = dialect_string(json_object_get(entry, "Node"), "Address");
        if (healthy(json_object_get(entry, "Checks")))
            (void)hubs_add(ret, tls, address, /* one that is no address is left out */
                           json_integer_value(json_object_get(service, "Port")));
    }
    json_decref(list);
    return 0;
}

const struct dialect dialect_consul = {
    .name = "Consul",
    .rules = &schedule_consul,
    .ask = consul_ask,
    .judge = consul_judge,
    .find = consul_find,
    .hubs = consul_hubs,
    .blocks = true,
};
