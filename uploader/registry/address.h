/* address.h - which registry, and where: PILLION_REGISTRY and Consul's own CONSUL_HTTP_ADDR, read. Plain C, no state.
 *
 *   none
 *   consul:                                  at CONSUL_HTTP_ADDR, else http://127.0.0.1:8500
 *   consul+http(s)://host:8500               consul+unix:///run/consul.sock
 *   eureka+http(s)://host:8761/eureka,…      several servers: the same registry, asked in this order; the prefix `eureka+` is
 *                                            needed once, a path once: an address without one has /eureka
 *
 * CONSUL_HTTP_ADDR has the forms that Consul's own client takes: host:port, http(s)://host:port, unix://path
 * (https://developer.hashicorp.com/consul/commands#environment-variables). */
#ifndef PILLION_UPLOADER_REGISTRY_ADDRESS_H
#define PILLION_UPLOADER_REGISTRY_ADDRESS_H

#include <stdbool.h>

#include "agent/base/buf.h"
#include "agent/base/limits.h"
#include "uploader/url.h"

enum registry_kind { REGISTRY_NONE, REGISTRY_CONSUL, REGISTRY_EUREKA };

struct registry_address {
    enum registry_kind kind;
    unsigned n; /* servers; 0 for none */
    struct url servers[LIMIT_REGISTRY_SERVERS];
    char *unix_path; /* owned; NULL: by TCP. The URL's host is then "localhost" */
};

/* `consul_addr` is CONSUL_HTTP_ADDR or NULL, `consul_ssl` whether CONSUL_HTTP_SSL asks for TLS. -EINVAL with one line for
 * people in `why` (may be NULL), without the address: there may be a password in it. -ENOMEM. *ret is empty after an error. */
int registry_address_parse(struct registry_address *ret, const char *text, const char *consul_addr,
                           bool consul_ssl, struct buf *why);
void registry_address_clear(struct registry_address *a);

#endif
