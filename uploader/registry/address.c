#include "uploader/registry/address.h"

#include <errno.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

#define CONSUL_DEFAULT "http://127.0.0.1:8500"
#define EUREKA_PATH    "/eureka"
#define UNIX_BYTES     107 /* of a socket's path, as the kernel takes it */

static int wrong(struct buf *why, const char *line) {
    if (why != NULL)
        buf_puts(why, line);
    return -EINVAL;
}

void registry_address_clear(struct registry_address *a) {
    for (unsigned i = 0; i < a->n; i++)
        url_clear(&a->servers[i]);
    mem_free(a->unix_path);
    *a = (struct registry_address){0};
}

/* One address of `len` bytes, behind the last one. */
static int add_server(struct registry_address *a, const char *text, size_t len, struct buf *why) {
    struct url *u = &a->servers[a->n];
    char *copy;
    int rc;

    if (a->n == LIMIT_REGISTRY_SERVERS)
        return wrong(why, "there are more than 8 servers");
    copy = mem_strndup(text, len);
    if (copy == NULL)
        return -ENOMEM;
    rc = url_parse(u, copy);
    mem_free(copy);
    if (rc == -EINVAL)
        return wrong(why, "it has an address that is not http(s)://host:port");
    if (rc != 0)
        return rc;
    a->n++;
    return u->query == NULL ? 0 : wrong(why, "its address has a query, which means nothing here");
}

static int set_unix(struct registry_address *a, const char *path, struct buf *why) {
    size_t len = strlen(path);

    if (len == 0 || len > UNIX_BYTES || path[0] != '/')
        return wrong(why, "its socket is not an absolute path of at most 107 bytes");
    a->unix_path = mem_strdup(path);
    if (a->unix_path == NULL)
        return -ENOMEM;
    return add_server(a, "http://localhost", strlen("http://localhost"), why);
}

/* Consul's own client takes an address without a scheme. */
static int from_consul_addr(struct registry_address *a, const char *text, bool ssl,
                            struct buf *why) {
    struct buf url;
    int rc;

    if (text == NULL || *text == '\0')
        text = ssl ? "https://127.0.0.1:8501" : CONSUL_DEFAULT;
    if (text_starts(text, "unix://"))
        return set_unix(a, text + strlen("unix://"), why);
    buf_init(&url, 4096);
    /* Consul's own client never goes back to http where TLS was asked for. */
    if (ssl && text_starts(text, "http://"))
        text += strlen("http://");
    if (strstr(text, "://") == NULL)
        buf_puts(&url, ssl ? "https://" : "http://");
    buf_puts(&url, text);
    rc = url.err != 0 ? url.err : add_server(a, url.data, url.len, NULL);
    buf_clear(&url);
    return rc == -ENOMEM ? rc
           : rc != 0 ? wrong(why, "CONSUL_HTTP_ADDR is none of host:port, http(s)://host:port and "
                                  "unix:///path")
                     : 0;
}

static int parse_consul(struct registry_address *a, const char *rest, bool ssl, struct buf *why) {
    if (text_starts(rest, "unix://"))
        return set_unix(a, rest + strlen("unix://"), why);
    if (strchr(rest, ',') != NULL)
        return wrong(why, "Consul has one address: that of the agent beside this container");
    if (ssl && text_starts(rest, "http://"))
        return wrong(why, "it says http:// where CONSUL_HTTP_SSL asks for TLS; accepted: "
                          "consul+https://…, or consul: with CONSUL_HTTP_ADDR");
    return add_server(a, rest, strlen(rest), why);
}

static int parse_eureka(struct registry_address *a, const char *rest, struct buf *why) {
    for (const char *p = rest;; p++) {
        size_t len = strcspn(p, ",");
        int rc = add_server(a, p, len, why);
        struct url *u = &a->servers[a->n > 0 ? a->n - 1 : 0];

        if (rc != 0)
            return rc;
        if (u->path == NULL || *u->path == '\0') {
            char *path = mem_strdup(EUREKA_PATH);

            if (path == NULL)
                return -ENOMEM;
            mem_free(u->path);
            u->path = path;
        }
        p += len;
        if (*p == '\0')
            return 0;
        if (text_starts(p + 1, "eureka+"))
            p += strlen("eureka+");
    }
}

int registry_address_parse(struct registry_address *ret, const char *text, const char *consul_addr,
                           bool consul_ssl, struct buf *why) {
    int rc;

    *ret = (struct registry_address){.kind = REGISTRY_NONE};
    if (strcmp(text, "none") == 0)
        return 0;
    if (strcmp(text, "consul:") == 0) {
        ret->kind = REGISTRY_CONSUL;
        rc = from_consul_addr(ret, consul_addr, consul_ssl, why);
    } else if (text_starts(text, "consul+")) {
        ret->kind = REGISTRY_CONSUL;
        rc = parse_consul(ret, text + strlen("consul+"), consul_ssl, why);
    } else if (text_starts(text, "eureka+")) {
        ret->kind = REGISTRY_EUREKA;
        rc = parse_eureka(ret, text + strlen("eureka+"), why);
    } else {
        rc = wrong(why, "it is none of none, consul:, consul+… and eureka+…");
    }
    if (rc != 0)
        registry_address_clear(ret);
    return rc;
}
