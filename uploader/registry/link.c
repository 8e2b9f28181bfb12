#include "uploader/registry/link.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

#define TOKEN_BYTES 4096
#define CONNECT_MS  3000
#define BODY_BYTES  120 /* of an error's text */

struct registry_link {
    uv_loop_t *loop;
    struct http *http;
    struct registry_address address;
    const struct dialect *dialect;
    struct registry_scope scope;
    char *token_file, *user, *password, *tls_name;
    char *token;  /* NULL none */
    bool refused; /* the last answer was 401 or 403: the file may have a newer one by now */
    char local[64];
    void (*closed)(void *arg);
    void *closed_arg;
};

/* --- the token --- */

/* Also without the line end that every file has. A control character inside would begin a header of its own. */
static int take_token(struct registry_link *l, const char *text) {
    size_t len = strlen(text);
    char *copy;

    while (len > 0 && isspace((unsigned char)text[len - 1]))
        len--;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] <= ' ' || text[i] == 0x7f)
            return -EINVAL;
    copy = len > 0 ? mem_strndup(text, len) : NULL;
    if (len > 0 && copy == NULL)
        return -ENOMEM;
    mem_free(l->token);
    l->token = copy;
    return 0;
}

/* Secrets are mounted as symbolic links, which are followed. */
static int read_token(struct registry_link *l) {
    char text[TOKEN_BYTES];
    int fd = open(l->token_file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    ssize_t n;
    int rc;

    if (fd < 0)
        return -errno;
    n = read(fd, text, sizeof(text) - 1);
    rc = n < 0 ? -errno : 0;
    close(fd);
    if (rc != 0)
        return rc;
    text[n] = '\0';
    rc = take_token(l, text);
    explicit_bzero(text, sizeof(text));
    return rc;
}

static int set_token(struct registry_link *l, const struct registry_settings *s, struct buf *why) {
    int rc = 0;

    if (s->token_file != NULL && *s->token_file != '\0') {
        l->token_file = mem_strdup(s->token_file);
        rc = l->token_file != NULL ? read_token(l) : -ENOMEM;
        if (rc != 0 && rc != -ENOMEM) {
            buf_printf(why, "CONSUL_HTTP_TOKEN_FILE=\"%.200s\": %s; accepted: a file with a token",
                       s->token_file, strerror(-rc));
            rc = -EINVAL;
        }
    } else if (s->token != NULL && *s->token != '\0') {
        rc = take_token(l, s->token);
        if (rc == -EINVAL)
            buf_puts(why, "CONSUL_HTTP_TOKEN=\"(hidden)\" has blanks or control characters in it");
    }
    return rc;
}

static int set_auth(struct registry_link *l, const char *auth) {
    const char *colon = auth != NULL ? strchr(auth, ':') : NULL;

    if (auth == NULL || *auth == '\0')
        return 0;
    l->user = mem_strndup(auth, colon != NULL ? (size_t)(colon - auth) : strlen(auth));
    l->password = mem_strdup(colon != NULL ? colon + 1 : "");
    return l->user != NULL && l->password != NULL ? 0 : -ENOMEM;
}

/* --- making and closing --- */

static void free_link(struct registry_link *l) {
    registry_address_clear(&l->address);
    mem_free(l->token_file);
    mem_free(l->user);
    mem_free(l->password);
    mem_free(l->tls_name);
    mem_free(l->token);
    mem_free(l);
}

/* Consul's own client does without the certificate then. A registry that anybody can be is none: that is said and not done. */
static int set_tls(struct registry_link *l, const struct registry_settings *s, struct buf *why) {
    bool tls = l->address.servers[0].tls && l->address.unix_path == NULL;

    if (tls && s->no_verify) {
        buf_puts(why,
                 "CONSUL_HTTP_SSL_VERIFY=false: a certificate that is not looked at is refused; "
                 "accepted: true, with the authority in CONSUL_CACERT and, where the "
                 "certificate is for another name, that in CONSUL_TLS_SERVER_NAME");
        return -EINVAL;
    }
    if (!tls || s->tls_name == NULL)
        return 0;
    l->tls_name = mem_strdup(s->tls_name);
    return l->tls_name != NULL ? 0 : -ENOMEM;
}

static void set_scope(struct registry_scope *scope, const struct registry_settings *s) {
    const struct {
        const char *from;
        char *to;
        size_t size;
    } all[] = {
        {s->namespace_, scope->namespace_, sizeof(scope->namespace_)},
        {s->partition, scope->partition, sizeof(scope->partition)},
        {s->datacenter, scope->datacenter, sizeof(scope->datacenter)},
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (all[i].from != NULL)
            (void)text_copy(all[i].to, all[i].size, all[i].from);
}

static int set_up(struct registry_link *l, const struct registry_settings *s, struct buf *why) {
    bool consul = l->address.kind == REGISTRY_CONSUL;
    int rc = 0;

    l->dialect = consul ? &dialect_consul : &dialect_eureka;
    if (consul) {
        set_scope(&l->scope, s);
        rc = set_token(l, s, why);
        if (rc == 0)
            rc = set_auth(l, s->auth);
        if (rc == 0)
            rc = set_tls(l, s, why);
    }
    return rc == 0 ? http_new(&l->http, l->loop, &s->tls, why) : rc;
}

int registry_link_new(struct registry_link **ret, uv_loop_t *loop,
                      const struct registry_settings *s, struct buf *why) {
    struct registry_link *l = mem_calloc(1, sizeof(*l));
    struct buf words;
    int rc;

    if (l == NULL)
        return -ENOMEM;
    l->loop = loop;
    buf_init(&words, 512);
    rc = registry_address_parse(&l->address, s->registry, s->consul_addr, s->consul_ssl, &words);
    if (rc == -EINVAL)
        buf_printf(why, "PILLION_REGISTRY is of no use: %s", words.data);
    buf_clear(&words);
    if (rc == 0 && l->address.kind != REGISTRY_NONE)
        rc = set_up(l, s, why);
    if (rc != 0 || l->address.kind == REGISTRY_NONE) {
        free_link(l);
        l = NULL;
    }
    if (rc == 0)
        *ret = l;
    return rc;
}

static void on_http_closed(void *arg) {
    struct registry_link *l = arg;
    void (*closed)(void *arg) = l->closed;
    void *closed_arg = l->closed_arg;

    free_link(l);
    closed(closed_arg);
}

void registry_link_close(struct registry_link *l, void (*closed)(void *arg), void *arg) {
    l->closed = closed;
    l->closed_arg = arg;
    http_close(l->http, on_http_closed, l);
}

/* --- what it is --- */

uv_loop_t *registry_link_loop(const struct registry_link *l) {
    return l->loop;
}

const struct dialect *registry_link_dialect(const struct registry_link *l) {
    return l->dialect;
}

const struct registry_scope *registry_link_scope(const struct registry_link *l) {
    return &l->scope;
}

unsigned registry_link_servers(const struct registry_link *l) {
    return l->address.n;
}

const char *registry_link_host(const struct registry_link *l, unsigned server, uint16_t *ret_port) {
    if (l->address.unix_path != NULL)
        return NULL;
    *ret_port = l->address.servers[server].port;
    return l->address.servers[server].host;
}

void registry_link_name(const struct registry_link *l, unsigned server, char out[URL_SHOW_BYTES]) {
    const char *kind = l->address.kind == REGISTRY_CONSUL ? "consul+" : "eureka+";
    char url[URL_SHOW_BYTES - 8] = "";

    if (l->address.unix_path != NULL)
        (void)snprintf(url, sizeof(url), "unix://%s", l->address.unix_path);
    else
        (void)url_format(&l->address.servers[server], "", url,
                         sizeof(url)); /* "" when it is that long: it is for the eye */
    (void)snprintf(out, URL_SHOW_BYTES, "%s%s", kind, url);
}

const char *registry_link_local(const struct registry_link *l) {
    return l->local;
}

uint64_t registry_link_connections(const struct registry_link *l) {
    return http_connections_made(l->http);
}

/* --- one request --- */

int registry_link_send(struct registry_link *l, unsigned server, const struct registry_ask *ask,
                       uint32_t total_ms, http_done_cb done, void *arg, struct http_call **ret) {
    const struct url *u = &l->address.servers[server];
    char url[4096], token[TOKEN_BYTES + 32];
    const char *headers[4] = {"Accept: application/json"};
    unsigned n = 1;
    struct http_request_out rq = {
        .method = ask->method,
        .url = url,
        .unix_socket = l->address.unix_path,
        .tls_name = l->tls_name,
        .headers = headers,
        .user = l->user != NULL ? l->user : u->user,
        .password = l->user != NULL ? l->password : u->password,
        .body = ask->body.len > 0 ? ask->body.data : NULL,
        .body_len = ask->body.len,
        .connect_ms = CONNECT_MS,
        .total_ms = total_ms,
        .stall_ms = total_ms + 1, /* a blocking query is silent for minutes */
        .answer_max = LIMIT_REGISTRY_ANSWER_BYTES,
        .done = done,
        .arg = arg,
    };
    int rc;

    if (ask->path.err != 0 || ask->body.err != 0)
        return ask->path.err != 0 ? ask->path.err : ask->body.err;
    rc = url_format(u, ask->path.data, url, sizeof(url));
    if (rc != 0)
        return rc;
    if (l->refused && l->token_file != NULL)
        (void)read_token(l); /* the old one stays where the new one cannot be read */
    if (ask->body.len > 0)
        headers[n++] = "Content-Type: application/json";
    if (l->token != NULL) {
        (void)snprintf(token, sizeof(token), "X-Consul-Token: %s", l->token);
        headers[n++] = token;
    }
    rc = http_send(l->http, &rq, ret);
    explicit_bzero(token, sizeof(token));
    return rc;
}

/* A registry, or a proxy before it, may give back what it was sent. */
static void hide(char *text, const char *secret) {
    size_t len = secret != NULL ? strlen(secret) : 0;
    char *p;

    if (len < 4)
        return;
    while ((p = strstr(text, secret)) != NULL)
        memset(p, '*', len);
}

/* The first line of the answer's body: Consul says there what it wants. A page of HTML says nothing. */
static void first_line(const struct registry_link *l, const char *body, char out[BODY_BYTES]) {
    char line[TOKEN_BYTES + BODY_BYTES], *end;

    (void)text_copy(line, sizeof(line), body); /* cut is fine */
    end = line + strcspn(line, "\r\n");
    *end = '\0';
    hide(line, l->token);
    hide(line, l->password);
    text_show(out, BODY_BYTES, line[0] == '<' || line[0] == '{' ? "" : line);
}

void registry_link_look(struct registry_link *l, const struct http_reply *reply,
                        char words[REGISTRY_WORDS]) {
    char line[BODY_BYTES];

    words[0] = '\0';
    if (reply->local_ip != NULL && reply->local_ip[0] != '\0')
        (void)text_copy(l->local, sizeof(l->local), reply->local_ip); /* an IP address fits */
    if (reply->rc != 0) {
        (void)text_copy(words, REGISTRY_WORDS, reply->error);
        return;
    }
    l->refused = reply->status == 401 || reply->status == 403;
    if (reply->status >= 200 && reply->status < 300)
        return;
    first_line(l, reply->body, line);
    (void)snprintf(words, REGISTRY_WORDS, "HTTP status %ld%s%s", reply->status,
                   line[0] != '\0' ? ": " : "", line);
}
