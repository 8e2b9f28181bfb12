#include "agent/registry_env.h"

#include <dirent.h>
#include <errno.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

static const char *env_get(char *const *env, const char *name) {
    size_t len = strlen(name);

    for (; *env != NULL; env++)
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=' && (*env)[len + 1] != '\0')
            return *env + len + 1;
    return NULL;
}

/* As Go's strconv.ParseBool has it: what Consul's own client takes. */
static int read_bool(bool *ret, const char *name, const char *text, struct buf *why) {
    static const char *const words[] = {"0", "f", "F", "false", "False", "FALSE",
                                        "1", "t", "T", "true",  "True",  "TRUE"};
    char shown[64];

    for (size_t i = 0; text != NULL && i < ARRAY_LEN(words); i++) {
        if (strcmp(text, words[i]) != 0)
            continue;
        *ret = i >= ARRAY_LEN(words) / 2;
        return 0;
    }
    if (text == NULL)
        return 0;
    text_show(shown, sizeof(shown), text);
    buf_printf(why, "%s=\"%s\" is neither true nor false; accepted: true, false, 1, 0, t, f", name,
               shown);
    return -EINVAL;
}

static int read_bools(struct registry_settings *s, char *const *env, struct buf *why) {
    bool verify = true;
    int rc = read_bool(&s->consul_ssl, "CONSUL_HTTP_SSL", env_get(env, "CONSUL_HTTP_SSL"), why);

    if (rc == 0)
        rc = read_bool(&verify, "CONSUL_HTTP_SSL_VERIFY", env_get(env, "CONSUL_HTTP_SSL_VERIFY"),
                       why);
    s->no_verify = !verify;
    return rc;
}

/* --- TLS --- */

static int readable(const char *name, const char *path, struct buf *why) {
    char shown[256];

    if (path == NULL || access(path, R_OK) == 0)
        return 0;
    text_show(shown, sizeof(shown), path);
    buf_printf(why, "%s=\"%s\": %s; accepted: a PEM file that can be read", name, shown,
               strerror(errno));
    return -EINVAL;
}

/* "1d3472b9.0", as openssl rehash makes them: the only ones that OpenSSL finds in a directory. Consul's own client, which is not
 * made with OpenSSL, takes every file. */
static bool has_hashed(const char *path) {
    DIR *d = opendir(path);
    struct dirent *e;
    bool found = false;

    while (d != NULL && !found && (e = readdir(d)) != NULL)
        found = strspn(e->d_name, "0123456789abcdef") == 8 && e->d_name[8] == '.';
    if (d != NULL)
        (void)closedir(d); /* was only read */
    return found;
}

static int read_capath(const char *path, struct buf *why) {
    char shown[256];

    if (path == NULL || has_hashed(path))
        return 0;
    text_show(shown, sizeof(shown), path);
    buf_printf(why,
               "CONSUL_CAPATH=\"%s\" has no files that are named by their hash; accepted: a "
               "directory that `openssl rehash` was run on, or one PEM file in CONSUL_CACERT",
               shown);
    return -EINVAL;
}

static int read_tls(struct http_tls *tls, char *const *env, struct buf *why) {
    const char *ca = env_get(env, "CONSUL_CACERT"), *ca_path = env_get(env, "CONSUL_CAPATH");
    const char *cert = env_get(env, "CONSUL_CLIENT_CERT"), *key = env_get(env, "CONSUL_CLIENT_KEY");
    int rc = readable("CONSUL_CACERT", ca, why);

    if (rc == 0 && ca == NULL)
        rc = read_capath(ca_path, why);
    if (rc == 0)
        rc = readable("CONSUL_CLIENT_CERT", cert, why);
    if (rc == 0)
        rc = readable("CONSUL_CLIENT_KEY", key, why);
    if (rc == 0 && key != NULL && cert == NULL) {
        buf_puts(why, "CONSUL_CLIENT_KEY is given without CONSUL_CLIENT_CERT; accepted: both, or "
                      "the certificate alone when the key is in its file");
        rc = -EINVAL;
    }
    if (ca != NULL || ca_path != NULL)
        tls->ca_file = ca != NULL ? ca : ca_path;
    if (cert != NULL) {
        tls->cert_file = cert;
        tls->key_file = key;
    }
    return rc;
}

/* --- Enterprise's places --- */

static int read_place(const char **ret, const char *name, char *const *env, size_t size,
                      struct buf *why) {
    *ret = env_get(env, name);
    if (*ret == NULL || strlen(*ret) < size)
        return 0;
    buf_printf(why, "%s is longer than %zu bytes; accepted: a name that Consul takes", name,
               size - 1);
    return -EINVAL;
}

static int read_scope(struct registry_settings *s, char *const *env, struct buf *why) {
    const size_t size = sizeof(((struct registry_scope *)NULL)->namespace_);
    int rc = read_place(&s->namespace_, "CONSUL_NAMESPACE", env, size, why);

    if (rc == 0)
        rc = read_place(&s->partition, "CONSUL_PARTITION", env, size, why);
    if (rc == 0)
        rc = read_place(&s->datacenter, "CONSUL_DATACENTER", env, size, why);
    return rc;
}

/* --- all --- */

static int read_consul(struct registry_settings *s, char *const *env, struct buf *why) {
    int rc = read_bools(s, env, why);

    s->consul_addr = env_get(env, "CONSUL_HTTP_ADDR");
    s->token = env_get(env, "CONSUL_HTTP_TOKEN");
    s->token_file = env_get(env, "CONSUL_HTTP_TOKEN_FILE");
    s->auth = env_get(env, "CONSUL_HTTP_AUTH");
    s->tls_name = env_get(env, "CONSUL_TLS_SERVER_NAME");
    if (rc == 0 && s->tls_name != NULL && strlen(s->tls_name) > 253) {
        buf_puts(why, "CONSUL_TLS_SERVER_NAME is longer than a name can be");
        rc = -EINVAL;
    }
    if (rc == 0)
        rc = read_tls(&s->tls, env, why);
    return rc == 0 ? read_scope(s, env, why) : rc;
}

/* Somewhere in the list. */
static bool wants_hubs(const char *sinks) {
    for (const char *p = sinks; *p != '\0'; p += *p == ',') {
        size_t len = strcspn(p, ",");

        if (len == strlen("hub:") && memcmp(p, "hub:", len) == 0)
            return true;
        p += len;
    }
    return false;
}

int registry_env_read(struct registry_env *ret, const struct config *config, char *const *env,
                      struct buf *why) {
    int rc;

    *ret = (struct registry_env){
        .settings = {.registry = config->registry,
                     .tls = {.ca_file = config->ca_file,
                             .cert_file = config->cert_file,
                             .key_file = config->key_file}},
        .pod_ip = env_get(env, "POD_IP"),
        .wants_hubs = wants_hubs(config->sink),
    };
    rc = advertise_parse(&ret->given, config->advertise); /* was looked at with the configuration */
    if (rc == 0 && text_starts(config->registry, "consul"))
        rc = read_consul(&ret->settings, env, why);
    return rc;
}

void registry_env_address(const struct registry_env *e, const struct registry_link *link,
                          char out[ADVERTISE_BYTES]) {
    const char *local = registry_link_local(link), *host;
    uint16_t port;

    host = registry_link_host(link, 0, &port);
    if (e->given.host[0] == '\0' && e->pod_ip == NULL && *local != '\0' &&
        !advertise_is_local(local))
        (void)text_copy(out, ADVERTISE_BYTES, local); /* an IP address fits */
    else
        advertise_find(out, &e->given, e->pod_ip, host);
}
