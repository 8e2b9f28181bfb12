/* amqp_url.h - the address of a RabbitMQ broker as PILLION_NOTIFY has it:
 *
 *     amqp(s)://[user[:password]@]host[:port]/[vhost][?exchange=…&routing_key=…&heartbeat=…]
 *
 * As the RabbitMQ URI specification has it (https://www.rabbitmq.com/docs/uri-spec), but for one thing: a path that is missing or
 * only "/" is the virtual host "/", because the one with the empty name does not exist anywhere. A slash in a name is %2f.
 * Without user: guest, guest. Without exchange: the default one, where the routing key is the name of a queue. Plain values. */
#ifndef PILLION_UPLOADER_NOTIFY_AMQP_URL_H
#define PILLION_UPLOADER_NOTIFY_AMQP_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "agent/base/buf.h"

#define AMQP_NAME_BYTES      256 /* a short string of the protocol and its NUL */
#define AMQP_HEARTBEAT_S     20
#define AMQP_HEARTBEAT_MIN_S 2
#define AMQP_HEARTBEAT_MAX_S 600

struct amqp_url {
    bool tls;
    uint16_t port;
    uint16_t heartbeat_s;
    char *host; /* owned, as user and password: a name or an address, IPv6 without brackets */
    char *user;
    char *password;
    char vhost[AMQP_NAME_BYTES];
    char exchange[AMQP_NAME_BYTES]; /* "": the default one */
    char routing_key[AMQP_NAME_BYTES];
};

/* -EINVAL with a line for people in `why` (what is wrong and what is accepted, no secrets); -ENOMEM. *ret is then empty. Call
 * amqp_url_clear() after success. */
int amqp_url_parse(struct amqp_url *ret, const char *text, struct buf *why);
void amqp_url_clear(struct amqp_url *u);
/* Appends what identifies it, for status and files, without user and password: "amqps://mq:5671/shop exchange=… routing_key=…". */
void amqp_url_name(const struct amqp_url *u, struct buf *out);

#endif
