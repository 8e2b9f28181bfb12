/* registry_env.h - what the environment says of the registry: PILLION_REGISTRY, PILLION_ADVERTISE, POD_IP, and the variables that
 * Consul's own programs take, with the meaning that they have there
 * (https://developer.hashicorp.com/consul/commands#environment-variables):
 *
 *   CONSUL_HTTP_ADDR         for `consul:`
 *   CONSUL_HTTP_SSL          true: TLS. 1, t, true, 0, f, false, in small letters, in capitals, or with one at the beginning
 *   CONSUL_HTTP_SSL_VERIFY   true. false is refused where there is TLS
 *   CONSUL_TLS_SERVER_NAME   what Consul's certificate is for, when that is not the host of its address
 *   CONSUL_CACERT            PEM file; goes before CONSUL_CAPATH (a directory with hashed links), both before PILLION_CA_FILE
 *   CONSUL_CLIENT_CERT/_KEY  before PILLION_CERT_FILE and PILLION_KEY_FILE
 *   CONSUL_HTTP_TOKEN_FILE   goes before CONSUL_HTTP_TOKEN; read again when the token is refused
 *   CONSUL_HTTP_AUTH         user:password
 *   CONSUL_NAMESPACE, CONSUL_PARTITION (Enterprise), CONSUL_DATACENTER (where hubs are looked for)
 *
 * An empty one counts as one that is not there. What cannot be done is refused with a line, and never left out in silence. */
#ifndef PILLION_REGISTRY_ENV_H
#define PILLION_REGISTRY_ENV_H

#include "agent/advertise.h"
#include "agent/config.h"
#include "uploader/registry/link.h"

struct registry_env {
    struct registry_settings settings;
    struct advertise given;
    const char *pod_ip; /* NULL: not said */
    bool wants_hubs;    /* `hub:` without an address is one of the sinks */
};

/* All strings stay those of `config` and `env`. -EINVAL with a line for people in `why`. */
int registry_env_read(struct registry_env *ret, const struct config *config, char *const *env,
                      struct buf *why);
/* The address that is given to the registry now; "": none was found. The end of the last connection to it is the best word. */
void registry_env_address(const struct registry_env *e, const struct registry_link *link,
                          char out[ADVERTISE_BYTES]);

#endif
