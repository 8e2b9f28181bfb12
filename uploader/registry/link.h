/* link.h - the way to the registry: its servers, what proves that we may, and one pool of connections for registration and
 * discovery together. Whatever goes wrong on it is put into words here, with no secret in them. Loop thread only.
 *
 * Who uses a link keeps at most one request of his under way, so that it needs one connection for each of its users. */
#ifndef PILLION_UPLOADER_REGISTRY_LINK_H
#define PILLION_UPLOADER_REGISTRY_LINK_H

#include <uv.h>

#include "uploader/http.h"
#include "uploader/registry/address.h"
#include "uploader/registry/dialect.h"

#define REGISTRY_WORDS 240

/* What the configuration says; NULL where it says nothing. Valid during registry_link_new() only. */
struct registry_settings {
    const char *registry;    /* as PILLION_REGISTRY has it */
    const char *consul_addr; /* CONSUL_HTTP_ADDR, for `consul:` */
    bool consul_ssl;         /* CONSUL_HTTP_SSL */
    bool no_verify;          /* CONSUL_HTTP_SSL_VERIFY=false: refused where there is TLS */
    const char *tls_name;    /* CONSUL_TLS_SERVER_NAME: what its certificate is for */
    const char *token;       /* CONSUL_HTTP_TOKEN */
    const char *
        token_file; /* CONSUL_HTTP_TOKEN_FILE, which goes before it: read again when the token is refused */
    const char *auth; /* CONSUL_HTTP_AUTH: user:password */
    const char *namespace_, *partition, *datacenter;
    struct http_tls tls;
};

struct registry_link;

/* *ret is NULL after success when the registry is `none`. -EINVAL: a line for people in `why`. -ENOMEM. */
int registry_link_new(struct registry_link **ret, uv_loop_t *loop,
                      const struct registry_settings *settings, struct buf *why);
/* When all its users are closed. */
void registry_link_close(struct registry_link *l, void (*closed)(void *arg), void *arg);

uv_loop_t *registry_link_loop(const struct registry_link *l);
const struct dialect *registry_link_dialect(const struct registry_link *l);
const struct registry_scope *registry_link_scope(const struct registry_link *l);
unsigned registry_link_servers(const struct registry_link *l);
/* Its host as it stands in the address (IPv6 without brackets) and port; NULL over a Unix socket. */
const char *registry_link_host(const struct registry_link *l, unsigned server, uint16_t *ret_port);
/* "consul+http://consul:8500", for status and log. */
void registry_link_name(const struct registry_link *l, unsigned server, char out[URL_SHOW_BYTES]);

/* Sends; `ask` and what it holds stay until done() was called, which is as in http.h. */
int registry_link_send(struct registry_link *l, unsigned server, const struct registry_ask *ask,
                       uint32_t total_ms, http_done_cb done, void *arg, struct http_call **ret);
/* After each answer: what went wrong, in words; "" for a 2xx. After 401 and 403 the token's file is read again before what is sent
 * next. */
void registry_link_look(struct registry_link *l, const struct http_reply *reply,
                        char words[REGISTRY_WORDS]);
/* Our end of the last connection, an IP address; "" before there was one, and over a Unix socket. */
const char *registry_link_local(const struct registry_link *l);
uint64_t registry_link_connections(const struct registry_link *l); /* made so far */

#endif
