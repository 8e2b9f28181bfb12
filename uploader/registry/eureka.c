/* eureka.c - Eureka's REST operations (https://github.com/Netflix/eureka/wiki/Eureka-REST-operations), in JSON.
 *
 * What is always sent as an object may come back otherwise: a single instance as an object instead of an array, a port as a
 * string (XStream's JSON). lastDirtyTimestamp is left to the server: with ours, a registration after our clock was set back
 * would lose against the older one that it already has. */
#include <errno.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/registry/dialect.h"

#define APP "PILLION"
#define DATACENTER                                                                                 \
    "{\"@class\":\"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo\",\"name\":\"MyOwn\"}"

static void put(struct buf *b, const char *before, const char *value) {
    buf_puts(b, before);
    buf_json_string(b, value);
}

static void put_instance(struct buf *b, const struct registration *r) {
    const char *address = r->address[0] != '\0' ? r->address : "127.0.0.1";

    put(b, "{\"instance\":{\"instanceId\":", r->id);
    put(b, ",\"app\":\"" APP "\",\"vipAddress\":\"" REGISTRY_SERVICE "\",\"hostName\":", address);
    put(b, ",\"ipAddr\":", address);
    buf_printf(b,
               ",\"status\":\"UP\",\"port\":{\"$\":%u,\"@enabled\":\"%s\"},"
               "\"securePort\":{\"$\":443,\"@enabled\":\"false\"},\"countryId\":1,"
               "\"dataCenterInfo\":" DATACENTER
               ",\"leaseInfo\":{\"renewalIntervalInSecs\":30,\"durationInSecs\":90}",
               (unsigned)r->port, r->port != 0 ? "true" : "false");
    put(b, ",\"metadata\":{\"app\":", r->app);
    put(b, ",\"instance\":", r->instance);
    put(b, ",\"version\":", r->version);
    put(b, ",\"node\":", r->node);
    buf_printf(b, ",\"workers\":\"%u\",\"commands\":\"%s\"}}}", r->workers,
               r->commands ? "port" : "none");
}

static void eureka_ask(enum registry_question what, const struct registration *r,
                       const struct registry_scope *scope, struct registry_ask *ret) {
    (void)scope;
    buf_puts(&ret->path, "/apps/" APP);
    if (what == REGISTRY_ASK_REGISTER) {
        ret->method = "POST";
        put_instance(&ret->body, r);
        return;
    }
    ret->method = what == REGISTRY_ASK_PASS ? "PUT" : "DELETE";
    buf_putc(&ret->path, '/');
    dialect_escape(&ret->path, r->id);
}

static enum schedule_answer eureka_judge(enum registry_question what, long status) {
    if (status >= 200 && status < 300)
        return SCHEDULE_DONE;
    if (status == 404 && what == REGISTRY_ASK_LEAVE)
        return SCHEDULE_DONE;
    return status == 404 && what == REGISTRY_ASK_PASS ? SCHEDULE_FORGOTTEN : SCHEDULE_REFUSED;
}

static void eureka_find(struct buf *path, const char *service, const struct registry_scope *scope,
                        uint64_t index, unsigned wait_s) {
    (void)scope, (void)index, (void)wait_s;
    buf_puts(path, "/apps/");
    for (; *service != '\0'; service++) {
        char c[2] = {*service >= 'a' && *service <= 'z' ? (char)(*service - 'a' + 'A') : *service};

        dialect_escape(path, c);
    }
}

/* 0: not enabled, or no number. */
static int64_t port_of(const json_t *port) {
    const json_t *number = json_object_get(port, "$"), *on = json_object_get(port, "@enabled");
    uint64_t n = 0;

    if (!json_is_true(on) && (!json_is_string(on) || strcmp(json_string_value(on), "true") != 0))
        return 0;
    if (json_is_string(number))
        return text_u64(json_string_value(number), &n) == 0 && n <= UINT16_MAX ? (int64_t)n : 0;
    return json_integer_value(number);
}

/* With TLS by its name, which its certificate has; else by its address, for which nobody need be asked. */
static void add_instance(struct hubs *ret, const json_t *x) {
    const char *address = dialect_string(x, "ipAddr"), *name = dialect_string(x, "hostName");
    int64_t port = port_of(json_object_get(x, "port"));
    int64_t secure = port_of(json_object_get(x, "securePort"));

    if (strcmp(dialect_string(x, "status"), "UP") != 0)
        return;
    if (port == 0 && secure != 0)
        (void)hubs_add(ret, true, *name != '\0' ? name : address, secure);
    else
        (void)hubs_add(ret, false, *address != '\0' ? address : name, port);
}

static int eureka_hubs(const char *body, size_t len, struct hubs *ret) {
    json_t *all = dialect_json(body, len), *x;
    const json_t *application = json_object_get(all, "application");
    const json_t *list = json_object_get(application, "instance");
    int rc = json_is_object(application) ? 0 : -EINVAL;
    size_t i;

    json_array_foreach(list, i, x) add_instance(ret, x);
    if (json_is_object(list))
        add_instance(ret, list);
    json_decref(all);
    return rc;
}

const struct dialect dialect_eureka = {
    .name = "Eureka",
    .rules = &schedule_eureka,
    .ask = eureka_ask,
    .judge = eureka_judge,
    .find = eureka_find,
    .hubs = eureka_hubs,
    .blocks = false,
};
