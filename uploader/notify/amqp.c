/* All went well: amqp_client_send … join … amqp_basic_publish … wait_confirm … take_method (ack).
 * Ways to fail: each one that leaves the connection in doubt ends in lose(), and the next message makes a new one. */
#include "uploader/notify/amqp.h"

#include <errno.h>
#include <poll.h>
#include <sys/time.h>

#if __has_include(<rabbitmq-c/amqp.h>)
#include <rabbitmq-c/amqp.h>
#include <rabbitmq-c/ssl_socket.h>
#include <rabbitmq-c/tcp_socket.h>
#else
#include <amqp.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#endif

#include "agent/base/clock.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/notify/amqp_tls.h"

#define CHANNEL     1
#define CONNECT_S   5
#define HANDSHAKE_S 5
#define RPC_S       5
#define GOODBYE_S   1
#define CONFIRM_MS  30000
#define FRAME_MAX   131072
#define FRAMES_AT_ONCE                                                                             \
    1000 /* then a look at wake_fd: a broker that never ends talking must not keep us */
#define PERSISTENT 2

enum confirm { CONFIRM_NONE, CONFIRM_ACK, CONFIRM_NACK };

struct amqp_client {
    struct amqp_url url;
    char *ca_file, *cert_file, *key_file; /* NULL: not given */
    char *app;
    int wake_fd;
    struct amqp_hooks hooks;
    struct amqp_tls tls;
    amqp_connection_state_t conn; /* NULL: not connected */
    uint64_t tag;                 /* of the last message on this channel */
    enum confirm confirm;
    bool blocked;
    bool returned;
    char returned_why[AMQP_WHY_BYTES];
};

static const struct timeval none;

/* --- words -------------------------------------------------------------------------------------- */

static void words(char *why, const char *what, amqp_bytes_t text) {
    char raw[160];
    size_t n = text.len < sizeof(raw) - 1 ? text.len : sizeof(raw) - 1;

    if (n > 0)
        memcpy(raw, text.bytes, n);
    raw[n] = '\0';
    for (size_t i = 0; i < n; i++)
        if (raw[i] == '\0' || raw[i] == '\n')
            raw[i] = ' ';
    n = (size_t)snprintf(why, AMQP_WHY_BYTES, "%s", what);
    if (n < AMQP_WHY_BYTES)
        text_show(why + n, AMQP_WHY_BYTES - n, raw);
}

/* 403 access, 404 no such exchange, 405 to 407, 530 no such virtual host: it will be the same until somebody changes it. */
static enum answer meaning(unsigned code) {
    return (code >= 402 && code <= 407) || code == 530 ? ANSWER_SETTLE : ANSWER_RETRY;
}

static enum answer said_close(const amqp_method_t *m, char *why) {
    char what[48];
    unsigned code = 0;
    amqp_bytes_t text = amqp_empty_bytes;

    if (m->id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *close = m->decoded;

        code = close->reply_code;
        text = close->reply_text;
    } else if (m->id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *close = m->decoded;

        code = close->reply_code;
        text = close->reply_text;
    }
    (void)snprintf(what, sizeof(what), "the broker said %u: ", code);
    words(why, what, text);
    return meaning(code);
}

static enum answer said_status(int status, const char *what, char *why) {
    (void)snprintf(why, AMQP_WHY_BYTES, "%s: %s", what, amqp_error_string2(status));
    return ANSWER_RETRY;
}

static enum answer said_reply(amqp_rpc_reply_t reply, const char *what, char *why) {
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION)
        return said_close(&reply.reply, why);
    return said_status(reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION
                           ? reply.library_error
                           : AMQP_STATUS_BAD_AMQP_DATA,
                       what, why);
}

/* --- making and ending a connection ------------------------------------------------------------- */

static char *copy(const char *s) {
    return s != NULL ? mem_strdup(s) : NULL;
}

int amqp_client_new(struct amqp_client **ret, struct amqp_url *url, const struct http_tls *tls,
                    const char *app, int wake_fd, const struct amqp_hooks *hooks) {
    static const struct http_tls system_tls;
    struct amqp_client *c = mem_calloc(1, sizeof(*c));

    if (c == NULL) {
        amqp_url_clear(url);
        return -ENOMEM;
    }
    if (tls == NULL)
        tls = &system_tls;
    c->url = *url;
    *url = (struct amqp_url){0};
    c->wake_fd = wake_fd;
    c->hooks = *hooks;
    c->tls = (struct amqp_tls){.socket = hooks->socket, .arg = hooks->arg};
    c->app = mem_strdup(app);
    c->ca_file = copy(tls->ca_file);
    c->cert_file = copy(tls->cert_file);
    c->key_file = copy(tls->key_file);
    if (c->app == NULL || (tls->ca_file != NULL && c->ca_file == NULL) ||
        (tls->cert_file != NULL && c->cert_file == NULL) ||
        (tls->key_file != NULL && c->key_file == NULL)) {
        amqp_client_free(c);
        return -ENOMEM;
    }
    *ret = c;
    return 0;
}

static void lose(struct amqp_client *c) {
    if (c->conn == NULL)
        return;
    c->hooks.socket(c->hooks.arg, -1);
    (void)amqp_destroy_connection(c->conn); /* whatever it says, it is gone */
    c->conn = NULL;
    if (c->blocked)
        c->hooks.blocked(c->hooks.arg, NULL);
    c->blocked = false;
}

void amqp_client_free(struct amqp_client *c) {
    if (c == NULL)
        return;
    lose(c);
    amqp_url_clear(&c->url);
    mem_free(c->ca_file);
    mem_free(c->cert_file);
    mem_free(c->key_file);
    mem_free(c->app);
    mem_free(c);
}

bool amqp_client_connected(const struct amqp_client *c) {
    return c->conn != NULL;
}

void amqp_client_disconnect(struct amqp_client *c) {
    struct timeval patience = {.tv_sec = GOODBYE_S};

    /* One that is blocked reads nothing. */
    if (c->conn != NULL && !c->blocked) {
        (void)amqp_set_rpc_timeout(c->conn, &patience); /* fails only for odd values */
        (void)amqp_connection_close(c->conn, AMQP_REPLY_SUCCESS);
    }
    lose(c);
}

/* TCP, and TLS where it was asked for. */
static enum answer open_socket(struct amqp_client *c, char *why) {
    const struct http_tls files = {
        .ca_file = c->ca_file, .cert_file = c->cert_file, .key_file = c->key_file};
    struct timeval patience = {.tv_sec = CONNECT_S};
    amqp_socket_t *s = c->url.tls ? amqp_ssl_socket_new(c->conn) : amqp_tcp_socket_new(c->conn);
    int status;

    if (s == NULL)
        return said_status(AMQP_STATUS_NO_MEMORY, "no connection", why);
    if (c->url.tls) {
        /* The name is compared in the handshake, for addresses as well: amqp_tls.c. */
        amqp_ssl_socket_set_verify_peer(s, 1);
        amqp_ssl_socket_set_verify_hostname(s, 0);
        if (amqp_tls_setup(&c->tls, amqp_ssl_socket_get_context(s), c->url.host, &files, why,
                           AMQP_WHY_BYTES) != 0)
            return ANSWER_SETTLE;
    }
    status = amqp_socket_open_noblock(s, c->url.host, c->url.port, &patience);
    if (status == AMQP_STATUS_SSL_CONNECTION_FAILED ||
        status == AMQP_STATUS_SSL_PEER_VERIFY_FAILED) {
        amqp_tls_why(&c->tls, why, AMQP_WHY_BYTES);
        return c->tls.verify_error != 0 ? ANSWER_SETTLE : ANSWER_RETRY;
    }
    if (status == AMQP_STATUS_SOCKET_ERROR) {
        /* librabbitmq keeps the error number to itself. */
        (void)snprintf(why, AMQP_WHY_BYTES, "%.120s:%u refuses the connection or cannot be reached",
                       c->url.host, (unsigned)c->url.port);
        return ANSWER_RETRY;
    }
    if (status != AMQP_STATUS_OK)
        return said_status(status, "no connection", why);
    c->hooks.socket(c->hooks.arg, amqp_get_sockfd(c->conn));
    return ANSWER_TAKEN;
}

static enum answer log_in(struct amqp_client *c, char *why) {
    struct timeval handshake = {.tv_sec = HANDSHAKE_S}, rpc = {.tv_sec = RPC_S};
    amqp_table_entry_t capability[] = {
        {.key = amqp_cstring_bytes("connection.blocked"),
         .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1}}};
    amqp_table_entry_t properties[] = {
        {.key = amqp_cstring_bytes("capabilities"),
         .value = {.kind = AMQP_FIELD_KIND_TABLE,
                   .value.table = {.num_entries = 1, .entries = capability}}},
        {.key = amqp_cstring_bytes("connection_name"),
         .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes(c->app)}}};
    amqp_table_t table = {.num_entries = (int)ARRAY_LEN(properties), .entries = properties};
    amqp_rpc_reply_t reply;

    (void)amqp_set_handshake_timeout(c->conn, &handshake); /* fail only for odd values */
    (void)amqp_set_rpc_timeout(c->conn, &rpc);
    reply =
        amqp_login_with_properties(c->conn, c->url.vhost, 0, FRAME_MAX, c->url.heartbeat_s, &table,
                                   AMQP_SASL_METHOD_PLAIN, c->url.user, c->url.password);
    if (reply.reply_type != AMQP_RESPONSE_NORMAL)
        return said_reply(reply, "no login", why);
    (void)amqp_channel_open(c->conn, CHANNEL); /* the reply says it */
    reply = amqp_get_rpc_reply(c->conn);
    if (reply.reply_type != AMQP_RESPONSE_NORMAL)
        return said_reply(reply, "no channel", why);
    (void)amqp_confirm_select(c->conn, CHANNEL);
    reply = amqp_get_rpc_reply(c->conn);
    if (reply.reply_type != AMQP_RESPONSE_NORMAL)
        return said_reply(reply, "no confirms", why);
    return ANSWER_TAKEN;
}

static enum answer join(struct amqp_client *c, char *why) {
    enum answer a;

    c->tag = 0;
    c->conn = amqp_new_connection();
    if (c->conn == NULL)
        return said_status(AMQP_STATUS_NO_MEMORY, "no connection", why);
    a = open_socket(c, why);
    if (a == ANSWER_TAKEN)
        a = log_in(c, why);
    if (a != ANSWER_TAKEN)
        lose(c);
    return a;
}

/* --- what the broker says by itself ------------------------------------------------------------- */

static void take_blocked(struct amqp_client *c, const amqp_connection_blocked_t *m) {
    char reason[AMQP_WHY_BYTES];

    words(reason, "the broker takes nothing at present: ", m->reason);
    c->blocked = true;
    c->hooks.blocked(c->hooks.arg, reason);
}

static void take_return(struct amqp_client *c, const amqp_basic_return_t *m) {
    char what[64];

    c->returned = true;
    (void)snprintf(what, sizeof(what), "no queue wants it (%u ", m->reply_code);
    words(c->returned_why, what, m->reply_text);
    if (strlen(c->returned_why) + 40 < AMQP_WHY_BYTES)
        (void)text_copy(c->returned_why + strlen(c->returned_why), 40,
                        "): bind one to the exchange");
}

/* false: the connection is over. */
static bool take_method(struct amqp_client *c, const amqp_method_t *m, enum answer *a, char *why) {
    switch (m->id) {
    case AMQP_BASIC_ACK_METHOD:
        if (((const amqp_basic_ack_t *)m->decoded)->delivery_tag == c->tag)
            c->confirm = CONFIRM_ACK;
        return true;
    case AMQP_BASIC_NACK_METHOD:
        if (((const amqp_basic_nack_t *)m->decoded)->delivery_tag == c->tag)
            c->confirm = CONFIRM_NACK;
        return true;
    case AMQP_BASIC_RETURN_METHOD:
        take_return(c, m->decoded);
        return true;
    case AMQP_CONNECTION_BLOCKED_METHOD:
        take_blocked(c, m->decoded);
        return true;
    case AMQP_CONNECTION_UNBLOCKED_METHOD:
        c->blocked = false;
        c->hooks.blocked(c->hooks.arg, NULL);
        return true;
    case AMQP_CONNECTION_CLOSE_METHOD:
    case AMQP_CHANNEL_CLOSE_METHOD:
        *a = said_close(m, why);
        return false;
    default:
        return true;
    }
}

/* Takes what has come, without waiting; sends heartbeats that are due. false: the connection is over, and lost. */
static bool serve(struct amqp_client *c, enum answer *a, char *why) {
    struct timeval now;
    amqp_frame_t frame;
    bool alive = true;
    int status = AMQP_STATUS_OK;

    c->hooks.calling(c->hooks.arg, true);
    for (int i = 0; i < FRAMES_AT_ONCE && alive; i++) {
        now = none;
        status = amqp_simple_wait_frame_noblock(c->conn, &frame, &now);
        if (status != AMQP_STATUS_OK)
            break;
        /* Header and body are those of a message that came back. */
        if (frame.frame_type == AMQP_FRAME_METHOD)
            alive = take_method(c, &frame.payload.method, a, why);
    }
    if (alive && status != AMQP_STATUS_OK && status != AMQP_STATUS_TIMEOUT) {
        *a = said_status(status, "the connection is lost", why);
        alive = false;
    }
    if (alive)
        amqp_maybe_release_buffers(c->conn);
    c->hooks.calling(c->hooks.arg, false);
    if (!alive)
        lose(c);
    return alive;
}

/* true: wake_fd is readable. Returns in time for the next heartbeat. */
static bool wait_input(struct amqp_client *c, uint64_t ms) {
    uint64_t beat = (uint64_t)c->url.heartbeat_s * 1000 / 4;
    struct pollfd fds[] = {{.fd = c->wake_fd, .events = POLLIN},
                           {.fd = amqp_get_sockfd(c->conn), .events = POLLIN}};
    int n = poll(fds, ARRAY_LEN(fds), (int)(ms < beat ? ms : beat));

    return n > 0 && fds[0].revents != 0;
}

/* --- a message ---------------------------------------------------------------------------------- */

static enum answer confirmed(struct amqp_client *c, char *why) {
    if (c->confirm == CONFIRM_NACK) {
        (void)text_copy(why, AMQP_WHY_BYTES,
                        "the broker refused it (nack): is the queue full, or not in order?");
        return ANSWER_RETRY;
    }
    if (c->returned) {
        (void)text_copy(why, AMQP_WHY_BYTES, c->returned_why);
        return ANSWER_SETTLE;
    }
    return ANSWER_TAKEN;
}

/* While the broker says that it is blocked there is no deadline: what it has been sent it delivers when the alarm ends, and a new
 * attempt would be a second copy. That it lives is then seen by its heartbeats. */
static enum answer wait_confirm(struct amqp_client *c, char *why) {
    uint64_t deadline = clock_mono_ms() + CONFIRM_MS, now;
    enum answer a = ANSWER_RETRY;

    for (;;) {
        if (!serve(c, &a, why))
            return a;
        if (c->confirm != CONFIRM_NONE)
            return confirmed(c, why);
        now = clock_mono_ms();
        if (c->blocked)
            deadline = now + CONFIRM_MS;
        if (now >= deadline) {
            (void)text_copy(why, AMQP_WHY_BYTES, "the broker confirmed nothing in 30 s");
            lose(c);
            return ANSWER_RETRY;
        }
        if (wait_input(c, deadline - now)) {
            (void)text_copy(why, AMQP_WHY_BYTES, "given up to end");
            return ANSWER_RETRY;
        }
    }
}

static enum answer publish(struct amqp_client *c, const struct amqp_message *m, char *why) {
    amqp_basic_properties_t p = {
        ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_DELIVERY_MODE_FLAG |
                  AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_APP_ID_FLAG,
        .content_type = amqp_cstring_bytes("application/json"),
        .delivery_mode = PERSISTENT,
        .message_id = amqp_cstring_bytes(m->id),
        .timestamp = (uint64_t)(clock_wall_ms() / 1000),
        .app_id = amqp_cstring_bytes(c->app)};
    amqp_bytes_t body = {.len = m->len, .bytes = (void *)(uintptr_t)m->body}; /* is only read */
    int status;

    c->tag++;
    c->confirm = CONFIRM_NONE;
    c->returned = false;
    c->hooks.calling(c->hooks.arg, true);
    status = amqp_basic_publish(c->conn, CHANNEL, amqp_cstring_bytes(c->url.exchange),
                                amqp_cstring_bytes(c->url.routing_key), 1, 0, &p, body);
    c->hooks.calling(c->hooks.arg, false);
    if (status == AMQP_STATUS_OK)
        return wait_confirm(c, why);
    lose(c);
    return said_status(status, "the connection is lost", why);
}

enum answer amqp_client_send(struct amqp_client *c, const struct amqp_message *m, char *why,
                             bool *ret_returned) {
    enum answer a = ANSWER_TAKEN;

    *ret_returned = false;
    if (c->conn != NULL && !serve(c, &a, why)) {
        /* It ended while nobody looked: no failure of this message. */
        a = ANSWER_TAKEN;
    }
    if (c->conn == NULL)
        a = join(c, why);
    if (a == ANSWER_TAKEN && m->id != NULL) {
        a = publish(c, m, why);
        *ret_returned = a == ANSWER_SETTLE && c->returned;
    }
    return a;
}

bool amqp_client_idle(struct amqp_client *c, int timeout_ms, char *why) {
    uint64_t end = clock_mono_ms() + (uint64_t)timeout_ms, now;
    enum answer a;

    for (;;) {
        if (!serve(c, &a, why))
            return false;
        now = clock_mono_ms();
        if (now >= end || wait_input(c, end - now))
            return true;
    }
}
