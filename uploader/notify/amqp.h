/* amqp.h - one connection to a RabbitMQ broker: AMQP 0-9-1 by librabbitmq, which blocks; so all of this is for a thread of its own.
 *
 * A message counts as taken when the broker confirmed it and did not give it back before: what no queue wants is acknowledged, too,
 * after a basic.return (https://www.rabbitmq.com/docs/confirms). Persistent, mandatory, one at a time.
 *
 * Every call ends in bounded time but for two: looking the name up, and writing to a broker that reads nothing. The one who owns the
 * thread frees the latter by shutdown(2) of the socket that hooks->socket told. */
#ifndef PILLION_UPLOADER_NOTIFY_AMQP_H
#define PILLION_UPLOADER_NOTIFY_AMQP_H

#include <stdbool.h>
#include <stddef.h>

#include "uploader/answer.h"
#include "uploader/http.h"
#include "uploader/notify/amqp_url.h"

#define AMQP_WHY_BYTES 256

struct amqp_client;

/* Called on the thread that uses the client. */
struct amqp_hooks {
    void *arg;
    /* The socket in use, from the moment on when it is known; -1: it is going to be closed now. */
    void (*socket)(void *arg, int fd);
    /* The library is entered (true), left (false), where it could block beyond its own deadlines. */
    void (*calling)(void *arg, bool inside);
    /* The broker takes nothing (an alarm of memory or disk) and why; NULL: it does again. */
    void (*blocked)(void *arg, const char *reason);
};

struct amqp_message {
    const char *id; /* NULL: connect only */
    const char *body;
    size_t len;
};

/* `url` is taken over (also on error). Strings are copied. wake_fd is polled beside the socket: when it is readable, waiting ends. -ENOMEM. */
int amqp_client_new(struct amqp_client **ret, struct amqp_url *url, const struct http_tls *tls,
                    const char *app, int wake_fd, const struct amqp_hooks *hooks);
void amqp_client_free(struct amqp_client *c); /* closes without a word */

bool amqp_client_connected(const struct amqp_client *c);
/* Connects when it is not. ANSWER_TAKEN; ANSWER_RETRY: later; ANSWER_SETTLE: somebody has to change something first (password, virtual
 * host, exchange, no queue bound). `why` (AMQP_WHY_BYTES) is then for people, without secrets. *ret_returned: no queue wanted it. */
enum answer amqp_client_send(struct amqp_client *c, const struct amqp_message *m, char *why,
                             bool *ret_returned);
/* Serves the connection (heartbeats, alarms) until wake_fd is readable or the time is over. false: the connection is lost, and why. */
bool amqp_client_idle(struct amqp_client *c, int timeout_ms, char *why);
/* Says goodbye and waits a second at most for the answer. */
void amqp_client_disconnect(struct amqp_client *c);

#endif
