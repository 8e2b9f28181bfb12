#include "uploader/notify/amqp_url.h"

#include <ctype.h>
#include <errno.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/url.h"

#define PORT     5672
#define PORT_TLS 5671
#define ACCEPTED                                                                                   \
    "accepted is amqp(s)://user:password@host:port/vhost?exchange=…&routing_key=… (special "   \
    "characters as %2f, %40 …)"

static int refuse(struct buf *why, const char *what) {
    buf_puts(why, what);
    buf_puts(why, "; " ACCEPTED);
    return -EINVAL;
}

/* url.c gives the port of HTTP when none was written: then it is ours. */
static bool port_written(const struct url *u, const char *text) {
    const char *p = strstr(text, "://") + 3, *at;
    size_t n = strcspn(p, "/?");

    at = memrchr(p, '@', n);
    if (at != NULL)
        n -= (size_t)(at + 1 - p);
    return n > strlen(u->host);
}

static int hex(char c) {
    return isdigit((unsigned char)c) ? c - '0' : (c | 0x20) - 'a' + 10;
}

static int take_vhost(struct amqp_url *r, const char *path, struct buf *why) {
    size_t len = 0;

    if (strcmp(path, "") == 0) {
        (void)text_copy(r->vhost, sizeof(r->vhost), "/");
        return 0;
    }
    for (const char *p = path + 1; *p != '\0'; p++) {
        int c = (unsigned char)*p;

        if (c == '/')
            return refuse(why, "there is a slash in the virtual host: write it as %2f");
        if (c == '%') {
            if (!isxdigit((unsigned char)p[1]) || !isxdigit((unsigned char)p[2]))
                return refuse(why, "a % in the virtual host is not followed by two hex digits");
            c = hex(p[1]) * 16 + hex(p[2]);
            p += 2;
        }
        if (c < 0x20 || c == 0x7f)
            return refuse(why, "there is a control character in the virtual host");
        if (len + 1 == sizeof(r->vhost))
            return refuse(why, "the virtual host is longer than 255 bytes");
        r->vhost[len++] = (char)c;
    }
    r->vhost[len] = '\0';
    return 0;
}

static int take_text(const struct url *u, const char *name, char out[AMQP_NAME_BYTES],
                     struct buf *why) {
    int rc = url_parameter(u, name, out, AMQP_NAME_BYTES);

    if (rc == -ENOENT)
        out[0] = '\0';
    if (rc == 0 || rc == -ENOENT)
        return 0;
    buf_printf(why, "%s is %s", name,
               rc == -ENAMETOOLONG ? "longer than 255 bytes" : "not well encoded");
    return refuse(why, "");
}

static int take_heartbeat(const struct url *u, struct amqp_url *r, struct buf *why) {
    char text[8];
    uint64_t s = AMQP_HEARTBEAT_S;
    int rc = url_parameter(u, "heartbeat", text, sizeof(text));

    if (rc == 0)
        rc = text_u64(text, &s);
    if ((rc != 0 && rc != -ENOENT) || s < AMQP_HEARTBEAT_MIN_S || s > AMQP_HEARTBEAT_MAX_S) {
        buf_printf(why, "heartbeat takes seconds, %d to %d", AMQP_HEARTBEAT_MIN_S,
                   AMQP_HEARTBEAT_MAX_S);
        return -EINVAL;
    }
    r->heartbeat_s = (uint16_t)s;
    return 0;
}

static int take_query(const struct url *u, struct amqp_url *r, struct buf *why) {
    static const char *const known[] = {"exchange", "routing_key", "heartbeat", NULL};
    char bad[64], shown[64];
    int rc;

    if (url_check_parameters(u, known, bad, sizeof(bad)) != 0) {
        text_show(shown, sizeof(shown), bad);
        buf_printf(why,
                   "the parameter \"%s\" is not known; accepted are exchange=, routing_key= and "
                   "heartbeat=",
                   shown);
        return -EINVAL;
    }
    rc = take_text(u, "exchange", r->exchange, why);
    if (rc == 0)
        rc = take_text(u, "routing_key", r->routing_key, why);
    if (rc == 0)
        rc = take_heartbeat(u, r, why);
    if (rc == 0 && r->exchange[0] == '\0' && r->routing_key[0] == '\0')
        rc = refuse(why, "neither exchange= nor routing_key= is given (without an exchange the "
                         "routing key is the name of a queue)");
    return rc;
}

/* The host without brackets; what is written stays in `u`. */
static int take_names(struct url *u, struct amqp_url *r) {
    size_t len = strlen(u->host);
    bool brackets = u->host[0] == '[';

    r->host = brackets ? mem_strndup(u->host + 1, len - 2) : mem_strdup(u->host);
    r->user = mem_strdup(u->user != NULL ? u->user : "guest");
    if (u->password != NULL)
        r->password = mem_strdup(u->password);
    else
        r->password = mem_strdup(u->user != NULL ? "" : "guest");
    return r->host != NULL && r->user != NULL && r->password != NULL ? 0 : -ENOMEM;
}

int amqp_url_parse(struct amqp_url *ret, const char *text, struct buf *why) {
    struct amqp_url r = {.tls = text_starts(text, "amqps://")};
    struct url u = {0};
    struct buf as_http;
    int rc;

    *ret = (struct amqp_url){0};
    if (!r.tls && !text_starts(text, "amqp://"))
        return refuse(why, "no amqp address");
    /* The grammar up to the path is that of any such address. */
    buf_init(&as_http, 8192);
    buf_puts(&as_http, "http");
    buf_puts(&as_http, strchr(text, ':'));
    rc = as_http.err != 0 ? as_http.err : url_parse(&u, as_http.data);
    if (rc != 0) {
        rc = rc == -ENOMEM ? rc : refuse(why, "the address cannot be read");
        goto out;
    }
    r.port = port_written(&u, as_http.data) ? u.port : r.tls ? PORT_TLS : PORT;
    rc = take_vhost(&r, u.path, why);
    if (rc == 0)
        rc = take_query(&u, &r, why);
    if (rc == 0)
        rc = take_names(&u, &r);
    if (rc == 0)
        *ret = r;
    else
        amqp_url_clear(&r);
out:
    url_clear(&u);
    buf_clear(&as_http);
    return rc;
}

void amqp_url_clear(struct amqp_url *u) {
    mem_free(u->host);
    mem_free(u->user);
    mem_free(u->password);
    *u = (struct amqp_url){0};
}

void amqp_url_name(const struct amqp_url *u, struct buf *out) {
    bool brackets = strchr(u->host, ':') != NULL;

    buf_printf(out, "%s://%s%s%s:%u/%s", u->tls ? "amqps" : "amqp", brackets ? "[" : "", u->host,
               brackets ? "]" : "", (unsigned)u->port, strcmp(u->vhost, "/") == 0 ? "" : u->vhost);
    if (u->exchange[0] != '\0')
        buf_printf(out, " exchange=%s", u->exchange);
    if (u->routing_key[0] != '\0')
        buf_printf(out, " routing_key=%s", u->routing_key);
}
