/* dialect.h - what a registry is asked, and what its answers mean: the one table that Consul and Eureka each fill. Functions
 * without state: text in, text out.
 *
 * A path is what stands behind the server's base address. Names in it are percent-encoded. */
#ifndef PILLION_UPLOADER_REGISTRY_DIALECT_H
#define PILLION_UPLOADER_REGISTRY_DIALECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/base/buf.h"
#include "uploader/registry/hubs.h"
#include "uploader/registry/schedule.h"

#define REGISTRY_SERVICE  "pillion"
#define REGISTRY_ID_BYTES 256
#define REGISTRY_TEXT                                                                              \
    256 /* of a value in the registration, the NUL included; longer ones are cut */

/* What others see of this container. */
struct registration {
    char id[REGISTRY_ID_BYTES]; /* <app>-<instance>, see registration_id() */
    char app[REGISTRY_TEXT], instance[REGISTRY_TEXT], version[32];
    char address[REGISTRY_TEXT]; /* IP address or name; "": the registry may find one itself */
    uint16_t port;               /* 0: none */
    char node[REGISTRY_TEXT];    /* versions of the workers: "v20.19.0,v22.1.0" */
    unsigned workers;
    bool commands; /* a command port is served at address:port */
};

/* Consul Enterprise's places; "" where they are not used. */
struct registry_scope {
    char namespace_[64], partition[64], datacenter[64];
};

/* Letters, digits, '.', '_' and '-'; where other bytes had to be replaced, or it was cut, a hash of the whole is behind it, so
 * that two containers never have one id. */
void registration_id(char out[REGISTRY_ID_BYTES], const char *app, const char *instance);

enum registry_question { REGISTRY_ASK_REGISTER, REGISTRY_ASK_PASS, REGISTRY_ASK_LEAVE };

struct registry_ask {
    const char *method;
    struct buf path, body; /* body empty: none. Cleared by the caller, also after an error */
};

struct dialect {
    const char *name; /* "Consul" */
    const struct schedule_rules *rules;
    void (*ask)(enum registry_question what, const struct registration *r,
                const struct registry_scope *scope, struct registry_ask *ret);
    /* `status` of an answer that came: what it means. */
    enum schedule_answer (*judge)(enum registry_question what, long status);
    /* Where the healthy instances of `service` are asked for. `index` and `wait_s`: of a blocking query; 0: an answer at once. */
    void (*find)(struct buf *path, const char *service, const struct registry_scope *scope,
                 uint64_t index, unsigned wait_s);
    /* From the body of a 200: those that are healthy and have an address and a port. -EINVAL: not such a document. */
    int (*hubs)(const char *body, size_t len, struct hubs *ret);
    bool blocks; /* find() can wait for a change; else it is asked every 30 s */
};

extern const struct dialect dialect_consul;
extern const struct dialect dialect_eureka;

/* For both: percent-encoded, RFC 3986's unreserved characters as they are. */
void dialect_escape(struct buf *out, const char *s);
/* A document of bounded depth and size, or NULL. */
json_t *dialect_json(const char *body, size_t len);
/* The string member, or "". */
const char *dialect_string(const json_t *object, const char *key);

#endif
