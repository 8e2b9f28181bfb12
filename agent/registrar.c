/* Happy path: new → start → (each second) tick → registry_describe → …; leave → on_left; close → registry, discovery, link, each
 * when the one before is closed.
 * It fails by nothing: what goes wrong on the way to the registry is the registry's business (uploader/registry/). */
#include "agent/registrar.h"

#include <errno.h>

#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/registry_env.h"
#include "uploader/registry/discovery.h"
#include "uploader/registry/registry.h"

#define ADDRESS_EVERY_MS 30000
#define NODES            16 /* different versions of Node.js in one container; further ones are not named */

struct registrar {
    uint16_t listening; /* port that can be reached from elsewhere; 0: none */
    struct registry_env env;
    struct registry_link *link;
    struct registry *registry;
    struct discovery *discovery; /* NULL: nobody asked for hubs */
    struct sink_hubs hubs;
    uint64_t address_ms; /* when it was last found; 0 never */
    char address[ADVERTISE_BYTES];
    bool leaving, left, closing;
    void (*closed)(void *arg);
    void *closed_arg;
};

/* --- the sink's view of the hubs --- */

static const char *pick_hub(void *arg) {
    return discovery_pick(arg);
}

static bool hub_failed(void *arg, const char *url) {
    return discovery_failed(arg, url);
}

static void hub_worked(void *arg, const char *url) {
    discovery_worked(arg, url);
}

const struct sink_hubs *registrar_hubs(const struct registrar *r) {
    return r != NULL && r->discovery != NULL ? &r->hubs : NULL;
}

/* --- making --- */

static int add_discovery(struct registrar *r, const struct config *config, const char *app) {
    int rc = discovery_new(&r->discovery, r->link, HUB_SERVICE, schedule_key(app, config->instance),
                           NULL, NULL);

    r->hubs = (struct sink_hubs){
        .pick = pick_hub, .failed = hub_failed, .worked = hub_worked, .arg = r->discovery};
    return rc;
}

/* A hub forwards commands to it; what listens on loopback it cannot reach. */
static uint16_t port_from_elsewhere(const struct config *config) {
    char ip[CONFIG_IP_BYTES];
    uint16_t port;

    if (config_listen(config->listen, ip, &port) != 0 || config_listen_is_local(ip))
        return 0;
    return port;
}

int registrar_new(struct registrar **ret, uv_loop_t *loop, const struct config *config,
                  char *const *env, const char *app, struct buf *why) {
    struct registrar *r = mem_calloc(1, sizeof(*r));
    int rc;

    if (r == NULL)
        return -ENOMEM;
    r->listening = port_from_elsewhere(config);
    rc = registry_env_read(&r->env, config, env, why);
    if (rc == 0)
        rc = registry_link_new(&r->link, loop, &r->env.settings, why);
    if (rc != 0 || r->link == NULL) {
        mem_free(r);
        if (rc == 0)
            *ret = NULL;
        return rc;
    }
    rc = registry_new(&r->registry, r->link, app, config->instance, PILLION_VERSION);
    if (rc == 0 && r->env.wants_hubs)
        rc = add_discovery(r, config, app);
    /* Handles are open: also after an error it is closed, and not freed. */
    *ret = r;
    return rc;
}

int registrar_start(struct registrar *r) {
    int rc;

    if (r == NULL)
        return 0;
    rc = registry_start(r->registry);
    return rc == 0 && r->discovery != NULL ? discovery_start(r->discovery) : rc;
}

/* --- what is registered --- */

static void find_address(struct registrar *r, uint64_t now_ms) {
    if (r->address_ms != 0 && now_ms - r->address_ms < ADDRESS_EVERY_MS &&
        *registry_link_local(r->link) == '\0')
        return;
    r->address_ms = now_ms;
    registry_env_address(&r->env, r->link, r->address);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void add_node(const char *nodes[NODES], size_t *n, const char *node) {
    for (size_t i = 0; i < *n; i++)
        if (strcmp(nodes[i], node) == 0)
            return;
    if (*node != '\0' && *n < NODES)
        nodes[(*n)++] = node;
}

/* Threads belong to their process. */
static unsigned look_at_workers(const struct workers *workers, char *out, size_t size) {
    const char *nodes[NODES] = {NULL};
    unsigned count = 0;
    size_t n = 0, len = 0;

    for (size_t i = 0; i < workers_count(workers); i++) {
        const struct worker *w = workers_at(workers, i);

        if (w->thread != 0 || w->state == WORKER_GONE)
            continue;
        count++;
        add_node(nodes, &n, w->node);
    }
    qsort(nodes, n, sizeof(nodes[0]), by_text);
    out[0] = '\0';
    for (size_t i = 0; i < n && len < size; i++)
        len += (size_t)snprintf(out + len, size - len, "%s%s", i > 0 ? "," : "", nodes[i]);
    return count;
}

void registrar_tick(struct registrar *r, const struct workers *workers, uint64_t now_ms) {
    char node[REGISTRY_TEXT];
    struct registry_facts facts = {.node = node};

    if (r == NULL || r->leaving)
        return;
    find_address(r, now_ms);
    facts.address = r->address;
    facts.port = r->env.given.port != 0 ? r->env.given.port : r->listening;
    facts.commands = r->listening != 0;
    facts.workers = look_at_workers(workers, node, sizeof(node));
    registry_describe(r->registry, &facts);
}

void registrar_status(const struct registrar *r, struct buf *out) {
    if (r == NULL) {
        buf_puts(out, "{\"state\":\"none\"}");
        return;
    }
    buf_putc(out, '{');
    registry_status(r->registry, out);
    buf_puts(out, ",\"discovery\":");
    if (r->discovery != NULL)
        discovery_status(r->discovery, out);
    else
        buf_puts(out, "null");
    buf_putc(out, '}');
}

/* --- leaving and closing --- */

static void on_link_closed(void *arg) {
    struct registrar *r = arg;
    void (*closed)(void *arg) = r->closed;
    void *closed_arg = r->closed_arg;

    mem_free(r);
    closed(closed_arg);
}

static void on_discovery_closed(void *arg) {
    struct registrar *r = arg;

    registry_link_close(r->link, on_link_closed, r);
}

static void on_registry_closed(void *arg) {
    struct registrar *r = arg;

    if (r->discovery != NULL)
        discovery_close(r->discovery, on_discovery_closed, r);
    else
        on_discovery_closed(r);
}

static void close_now(struct registrar *r) {
    if (r->registry != NULL)
        registry_close(r->registry, on_registry_closed, r);
    else
        on_registry_closed(r);
}

static void on_left(void *arg) {
    struct registrar *r = arg;

    r->left = true;
    if (r->closing)
        close_now(r);
}

void registrar_leave(struct registrar *r) {
    if (r == NULL || r->leaving)
        return;
    r->leaving = true;
    registry_leave(r->registry, on_left, r);
}

void registrar_close(struct registrar *r, void (*closed)(void *arg), void *arg) {
    if (r == NULL) {
        closed(arg);
        return;
    }
    r->closing = true;
    r->closed = closed;
    r->closed_arg = arg;
    if (!r->leaving || r->left)
        close_now(r);
}
