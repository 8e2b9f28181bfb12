/* What is asked changes nothing there:
 *
 *     Consul   GET  /v1/agent/self               version, node and datacenter, where the token may see them
 *              POST /v1/internal/acl/authorize   what the token may do; Consul's own pages ask the same way. 401: there are no ACLs
 *              GET  /v1/health/service/pillion-hub?passing    for `hub:`
 *     Eureka   GET  /apps                        each of the servers; 404: there is no Eureka behind this path
 *              GET  /apps/PILLION-HUB            for `hub:`
 *
 * One question at a time, on a loop of its own that turns until the answer is there. */
#include "agent/cli/check_registry.h"

#include <errno.h>

#include "agent/appname.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/registry_env.h"
#include "uploader/registry/discovery.h"

#define PROBE_MS   10000
#define WHY_BYTES  1024
#define PATH_BYTES 1024

struct probe {
    struct report *report;
    struct registry_env env;
    struct registry_link *link;
    struct registry_ask ask;
    unsigned server;
    char name[URL_SHOW_BYTES]; /* of the server that is asked */
    /* The answer. */
    bool done;
    int rc;
    long status;
    char *body; /* owned; NUL-terminated, NULL without memory */
    size_t len;
    char words[REGISTRY_WORDS]; /* "" for a 2xx */
};

/* --- one question --- */

static void on_reply(void *arg, const struct http_reply *reply) {
    struct probe *p = arg;

    p->done = true;
    p->rc = reply->rc;
    p->status = reply->status;
    p->len = reply->len;
    mem_free(p->body);
    p->body = mem_strndup(reply->body, reply->len);
    registry_link_look(p->link, reply, p->words);
}

/* Path and body are in p->ask. True: an answer came, whatever it is. */
static bool ask(struct probe *p, const char *method) {
    p->ask.method = method;
    p->done = false;
    p->rc = registry_link_send(p->link, p->server, &p->ask, PROBE_MS, on_reply, p, NULL);
    if (p->rc != 0)
        (void)text_copy(p->words, sizeof(p->words), strerror(-p->rc));
    while (p->rc == 0 && !p->done)
        (void)uv_run(registry_link_loop(p->link), UV_RUN_ONCE);
    buf_reset(&p->ask.path);
    buf_reset(&p->ask.body);
    return p->rc == 0 && p->body != NULL;
}

static const char *advice_for(const struct probe *p) {
    bool consul = registry_link_dialect(p->link) == &dialect_consul;

    switch (p->rc) {
    case 0:
        break;
    case -EBADE:
    case -EKEYEXPIRED:
        return consul ? "An authority of your own: CONSUL_CACERT or PILLION_CA_FILE; a certificate "
                        "for another name: CONSUL_TLS_SERVER_NAME."
                      : "An authority of your own: PILLION_CA_FILE.";
    case -EKEYREJECTED:
        return consul ? "CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY, or http:// in place of https://."
                      : "PILLION_CERT_FILE and PILLION_KEY_FILE, or http:// in place of https://.";
    case -ENOENT:
        return "Is the name right, and is there a name server (/etc/resolv.conf)?";
    default:
        return "The application and its samples do not wait for it: it is asked again for ever.";
    }
    if (p->status == 401 || p->status == 403)
        return consul ? "CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE, or CONSUL_HTTP_AUTH."
                      : "user:password@ in the address.";
    return "Is the address right?";
}

static void say_failed(struct probe *p, enum report_result how) {
    report_add(p->report, how, "registry", advice_for(p), "%s: %s", p->name, p->words);
}

/* --- Consul --- */

/* "Consul 1.22.3, node test in dc1"; false: this is something else. */
static bool consul_named(const struct probe *p, char *out, size_t size) {
    json_t *o = dialect_json(p->body, p->len);
    const json_t *config = json_object_get(o, "Config");
    const char *version = dialect_string(config, "Version");
    bool good = *version != '\0';

    (void)snprintf(out, size, "Consul %.40s, node %.100s in %.64s", version,
                   dialect_string(config, "NodeName"), dialect_string(config, "Datacenter"));
    json_decref(o);
    return good;
}

static bool consul_reached(struct probe *p) {
    char what[256];

    buf_puts(&p->ask.path, "/v1/agent/self");
    if (!ask(p, "GET") || (p->status != 200 && p->status != 403)) {
        say_failed(p, REPORT_FAIL);
        return false;
    }
    if (p->status == 403) { /* the right to read agents is not needed, and few tokens have it */
        report_add(p->report, REPORT_OK, "registry", NULL, "%s: it answers, with ACLs", p->name);
        return true;
    }
    if (!consul_named(p, what, sizeof(what))) {
        report_add(p->report, REPORT_FAIL, "registry", "Is the address right?",
                   "%s: answers, but is not Consul", p->name);
        return false;
    }
    report_add(p->report, REPORT_OK, "registry", NULL, "%s: %s", p->name, what);
    return true;
}

/* What is asked for, in this order, and what to do where it is not allowed. */
static const struct {
    const char *resource, *access, *segment;
    bool for_hubs;
    const char *without, *policy;
} rights[] = {
    {"service", "write", REGISTRY_SERVICE, false, "may not register the service " REGISTRY_SERVICE,
     "Its policy needs: service \"" REGISTRY_SERVICE "\" { policy = \"write\" }"},
    {"service", "read", HUB_SERVICE, true, "may not look for the service " HUB_SERVICE,
     "Its policy needs: service \"" HUB_SERVICE "\" { policy = \"read\" }"},
    {"node", "read", "", true, "may not see nodes: hubs on them stay unseen",
     "Its policy needs: node_prefix \"\" { policy = \"read\" }"},
};

static void put_rights(struct probe *p) {
    const struct registry_scope *scope = registry_link_scope(p->link);
    char first = '?';

    buf_puts(&p->ask.path, "/v1/internal/acl/authorize");
    if (scope->namespace_[0] != '\0') {
        buf_puts(&p->ask.path, "?ns=");
        dialect_escape(&p->ask.path, scope->namespace_);
        first = '&';
    }
    if (scope->partition[0] != '\0') {
        buf_printf(&p->ask.path, "%cpartition=", first);
        dialect_escape(&p->ask.path, scope->partition);
    }
    for (size_t i = 0; i < ARRAY_LEN(rights); i++)
        buf_printf(&p->ask.body, "%s{\"Resource\":\"%s\",\"Access\":\"%s\",\"Segment\":\"%s\"}",
                   i == 0 ? "[" : ",", rights[i].resource, rights[i].access, rights[i].segment);
    buf_puts(&p->ask.body, "]");
}

static void say_rights(struct probe *p, bool given, const char *whose) {
    json_t *list = dialect_json(p->body, p->len);
    bool all = json_array_size(list) == ARRAY_LEN(rights);

    if (!all)
        report_add(p->report, REPORT_WARN, "registry-token", NULL,
                   "%s is taken; its answer does not say what it may", whose);
    for (size_t i = 0; i < json_array_size(list) && i < ARRAY_LEN(rights); i++) {
        if (json_is_true(json_object_get(json_array_get(list, i), "Allow")) ||
            (rights[i].for_hubs && !p->env.wants_hubs))
            continue;
        all = false;
        report_add(p->report, REPORT_FAIL, "registry-token",
                   given ? rights[i].policy
                         : "Give it one: CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE.",
                   "%s %s", whose, rights[i].without);
    }
    if (all)
        report_add(p->report, REPORT_OK, "registry-token", NULL, "%s may register the service %s%s",
                   whose, REGISTRY_SERVICE, p->env.wants_hubs ? " and look for hubs" : "");
    json_decref(list);
}

static void consul_rights(struct probe *p) {
    bool given = p->env.settings.token != NULL || p->env.settings.token_file != NULL;
    const char *whose = given ? "the token" : "the anonymous token (none is given)";

    put_rights(p);
    if (!ask(p, "POST"))
        say_failed(p, REPORT_FAIL);
    else if (p->status == 200)
        say_rights(p, given, whose);
    else if (p->status == 401 && strstr(p->body, "ACL support disabled") != NULL)
        report_add(p->report, REPORT_OK, "registry-token", NULL,
                   "Consul has no ACLs: anybody may register%s",
                   given ? ", the token is not looked at" : "");
    else if (p->status == 401 || p->status == 403)
        report_add(p->report, REPORT_FAIL, "registry-token", advice_for(p), "%s is refused: %s",
                   whose, p->words);
    else /* a version, or a proxy before it, that does not answer this */
        report_add(p->report, REPORT_WARN, "registry-token",
                   "`pillion status` says whether the registration was taken.",
                   "what %s may do cannot be asked (%s)", whose, p->words);
}

/* --- Eureka --- */

/* True when one of them is fit for use. */
static bool eureka_reached(struct probe *p) {
    unsigned n = registry_link_servers(p->link), good = 0;

    for (p->server = 0; p->server < n; p->server++) {
        registry_link_name(p->link, p->server, p->name);
        buf_puts(&p->ask.path, "/apps");
        if (!ask(p, "GET"))
            say_failed(p, n > 1 ? REPORT_WARN : REPORT_FAIL);
        else if (p->status == 404)
            report_add(p->report, n > 1 ? REPORT_WARN : REPORT_FAIL, "registry",
                       "The path of Eureka is mostly /eureka.",
                       "%s: answers, and there is no Eureka behind this path", p->name);
        else if (p->status != 200)
            say_failed(p, n > 1 ? REPORT_WARN : REPORT_FAIL);
        else if (strstr(p->body, "\"applications\"") == NULL)
            report_add(p->report, n > 1 ? REPORT_WARN : REPORT_FAIL, "registry",
                       "Is the address right?", "%s: answers, but is not Eureka", p->name);
        else {
            good++;
            report_add(p->report, REPORT_OK, "registry", NULL, "%s: Eureka, and it lets us in",
                       p->name);
        }
    }
    p->server = 0;
    if (good == 0 && n > 1)
        report_add(p->report, REPORT_FAIL, "registry", NULL, "none of the %u servers can be used",
                   n);
    return good > 0;
}

/* --- both --- */

static void check_hubs(struct probe *p) {
    const struct dialect *dialect = registry_link_dialect(p->link);
    struct hubs hubs;

    hubs_init(&hubs, 0);
    dialect->find(&p->ask.path, HUB_SERVICE, registry_link_scope(p->link), 0, 0);
    if (!ask(p, "GET") || (p->status != 200 && p->status != 404))
        report_add(p->report, REPORT_FAIL, "hubs", advice_for(p), "cannot be looked for: %s",
                   p->words);
    else if (p->status == 200 && dialect->hubs(p->body, p->len, &hubs) != 0)
        report_add(p->report, REPORT_FAIL, "hubs", NULL,
                   "the registry's answer is not a list of services");
    else if (hubs.n == 0)
        report_add(p->report, REPORT_WARN, "hubs", "Batches wait in the spool until there is one.",
                   "no healthy instance of " HUB_SERVICE " is registered");
    else
        report_add(p->report, REPORT_OK, "hubs", NULL, "%u healthy, the first is %s", hubs.n,
                   hubs.list[0].url);
}

static void say_entry(struct probe *p, const struct config *config) {
    char address[ADVERTISE_BYTES], id[REGISTRY_ID_BYTES], port[32] = "no port";
    char *app = appname_find(config->app);
    enum report_result how = REPORT_OK;
    const char *advice = NULL;

    registry_env_address(&p->env, p->link, address);
    if (p->env.given.port != 0)
        (void)snprintf(port, sizeof(port), "port %u", (unsigned)p->env.given.port);
    registration_id(id, app != NULL ? app : "app", config->instance);
    mem_free(app);
    if (address[0] == '\0' || advertise_is_local(address)) {
        how = REPORT_WARN;
        advice = "Others cannot come here by it: PILLION_ADVERTISE=HOST, or POD_IP.";
    }
    report_add(p->report, how, "advertise", advice,
               "service " REGISTRY_SERVICE ", id %s, address %s, %s", id,
               address[0] != '\0' ? address : "none (the registry's node stands for it)", port);
}

static void check_link(struct probe *p, const struct config *config) {
    bool consul = registry_link_dialect(p->link) == &dialect_consul;
    bool reached;

    buf_init(&p->ask.path, PATH_BYTES);
    buf_init(&p->ask.body, PATH_BYTES);
    registry_link_name(p->link, 0, p->name);
    reached = consul ? consul_reached(p) : eureka_reached(p);
    if (reached && consul)
        consul_rights(p);
    if (reached && p->env.wants_hubs)
        check_hubs(p);
    say_entry(p, config);
    buf_clear(&p->ask.path);
    buf_clear(&p->ask.body);
    mem_free(p->body);
}

static void on_closed(void *arg) {
    (void)arg;
}

void check_registry(struct report *r, const struct config *config, char *const *env) {
    struct probe p = {.report = r};
    struct buf why;
    uv_loop_t loop;
    int rc;

    if (uv_loop_init(&loop) != 0)
        return;
    buf_init(&why, WHY_BYTES);
    rc = registry_env_read(&p.env, config, env, &why);
    if (rc == 0)
        rc = registry_link_new(&p.link, &loop, &p.env.settings, &why);
    if (rc != 0) {
        report_add(r, REPORT_FAIL, "registry", NULL, "%s", why.len > 0 ? why.data : strerror(-rc));
    } else if (p.link != NULL) {
        check_link(&p, config);
        registry_link_close(p.link, on_closed, NULL);
    } else if (p.env.wants_hubs) {
        report_add(r, REPORT_FAIL, "registry", "PILLION_REGISTRY, or hub+http(s)://HOST.",
                   "the sink hub: asks the registry, and there is none");
    }
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&loop); /* nothing is open */
    buf_clear(&why);
}
