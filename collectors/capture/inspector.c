/* inspector.c - see inspector.h.
 *
 * connect: GET /json/list names the path, a second connection is upgraded to it. Both are answered by a thread of Node's own, so
 * they work while the main thread is stuck; the calls themselves are carried out wherever V8 looks for interrupts.
 * A failure of any kind leaves the connection useless; the caller closes it. */
#include "collectors/capture/inspector.h"

#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define HTTP_BYTES 65536 /* of an answer */
#define READ_BYTES 65536
#define PATH_BYTES 128

void inspector_init(struct inspector *i, int cancel_fd) {
    memset(i, 0, sizeof(*i));
    i->fd = -1;
    i->cancel_fd = cancel_fd;
    buf_init(&i->message, INSPECTOR_MESSAGE_BYTES);
    buf_init(&i->answer, INSPECTOR_MESSAGE_BYTES);
    buf_init(&i->happening, INSPECTOR_MESSAGE_BYTES);
    buf_init(&i->scripts, INSPECTOR_SCRIPTS_BYTES);
    websocket_reader_init(&i->reader);
}

void inspector_clear(struct inspector *i) {
    if (i->fd >= 0)
        (void)close(i->fd); /* nothing more is to come */
    i->fd = -1;
    buf_clear(&i->message);
    buf_clear(&i->answer);
    buf_clear(&i->happening);
    buf_clear(&i->scripts);
}

/* --- bytes --------------------------------------------------------------------------------------------------------------- */

static int wait_for(const struct inspector *i, short events, uint64_t until_ms) {
    struct pollfd fds[2] = {{.fd = i->fd, .events = events},
                            {.fd = i->cancel_fd, .events = POLLIN}};
    uint64_t now = clock_mono_ms();
    int n;

    if (now >= until_ms)
        return -ETIMEDOUT;
    n = poll(fds, 2, until_ms - now > 60000 ? 60000 : (int)(until_ms - now));
    if (n < 0)
        return errno == EINTR ? -EAGAIN : -errno;
    if (fds[1].revents != 0)
        return -ECANCELED;
    return fds[0].revents != 0 ? 0 : -EAGAIN;
}

/* Bytes read, 0 at the end. */
static ssize_t read_some(const struct inspector *i, void *out, size_t size, uint64_t until_ms) {
    for (;;) {
        ssize_t n = recv(i->fd, out, size, MSG_DONTWAIT);
        int rc;

        if (n >= 0)
            return n;
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        rc = wait_for(i, POLLIN, until_ms);
        if (rc != 0 && rc != -EAGAIN)
            return rc;
    }
}

static int write_all(const struct inspector *i, const void *data, size_t len, uint64_t until_ms) {
    const char *at = data;

    while (len > 0) {
        ssize_t n = send(i->fd, at, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        int rc;

        if (n >= 0) {
            at += n;
            len -= (size_t)n;
            continue;
        }
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        rc = wait_for(i, POLLOUT, until_ms);
        if (rc != 0 && rc != -EAGAIN)
            return rc;
    }
    return 0;
}

static int dial(struct inspector *i, unsigned port) {
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;

    if (i->fd >= 0)
        (void)close(i->fd); /* of the question before */
    i->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (i->fd < 0)
        return -errno;
    /* A delayed acknowledgement would cost 40 ms at each step. */
    (void)setsockopt(i->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    /* On loopback it is made or refused at once. */
    return connect(i->fd, (struct sockaddr *)&a, sizeof(a)) == 0 ? 0 : -errno;
}

/* --- connecting ---------------------------------------------------------------------------------------------------------- */

/* Reads the head of an answer and, where it has one, a body of known length; `ret_body` is where that begins. */
static int read_http(struct inspector *i, struct buf *in, bool body, uint64_t until_ms,
                     size_t *ret_body) {
    for (;;) {
        const char *end = in->len > 0 ? strstr(in->data, "\r\n\r\n") : NULL;
        ssize_t n;

        if (end != NULL) {
            const char *length = strcasestr(in->data, "\r\ncontent-length:");
            size_t head = (size_t)(end + 4 - in->data);
            unsigned long more = 0;

            if (!body) {
                *ret_body = head;
                return 0;
            }
            if (length == NULL || length > end || sscanf(length + 17, " %5lu", &more) != 1)
                return -EPROTO;
            *ret_body = head;
            if (in->len - head >= more)
                return 0;
        }
        if (buf_reserve(in, 4096) != 0)
            return in->err == -ENOBUFS ? -EPROTO : in->err;
        /* The upgraded connection's first frame must not be taken along: heads are read byte by byte there. */
        n = read_some(i, in->data + in->len, body ? 4096 : 1, until_ms);
        if (n <= 0)
            return n == 0 ? -EPROTO : (int)n;
        in->len += (size_t)n;
        in->data[in->len] = '\0';
    }
}

static int read_path(const char *json, size_t len, char out[PATH_BYTES]) {
    json_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, NULL);
    const char *url =
        json_string_value(json_object_get(json_array_get(root, 0), "webSocketDebuggerUrl"));
    const char *path = url != NULL && text_starts(url, "ws://") ? strchr(url + 5, '/') : NULL;
    int rc = -EPROTO;

    if (path != NULL && strlen(path) < PATH_BYTES &&
        strspn(path, "/-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") ==
            strlen(path)) {
        (void)text_copy(out, PATH_BYTES, path);
        rc = 0;
    }
    json_decref(root);
    return rc;
}

static int ask_path(struct inspector *i, unsigned port, char out[PATH_BYTES], uint64_t until_ms) {
    char request[96];
    struct buf in;
    size_t body = 0;
    int rc;

    buf_init(&in, HTTP_BYTES);
    (void)snprintf(request, sizeof(request),
                   "GET /json/list HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n\r\n", port);
    rc = dial(i, port);
    if (rc == 0)
        rc = write_all(i, request, strlen(request), until_ms);
    if (rc == 0)
        rc = read_http(i, &in, true, until_ms, &body);
    if (rc == 0)
        rc = text_starts(in.data, "HTTP/1.") && strncmp(in.data + 8, " 200", 4) == 0 ? 0 : -EPROTO;
    if (rc == 0)
        rc = read_path(in.data + body, in.len - body, out);
    buf_clear(&in);
    return rc;
}

static int upgrade(struct inspector *i, unsigned port, const char *path, uint64_t until_ms) {
    char request[512], key[WEBSOCKET_KEY_BYTES], accept[WEBSOCKET_ACCEPT_BYTES];
    uint8_t random[16];
    struct buf in;
    size_t body = 0;
    int rc;

    buf_init(&in, HTTP_BYTES);
    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return -EIO;
    rc = websocket_key(random, key, accept);
    if (rc == 0)
        rc = dial(i, port);
    (void)snprintf(
        request, sizeof(request),
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n",
        path, port, key);
    if (rc == 0)
        rc = write_all(i, request, strlen(request), until_ms);
    if (rc == 0)
        rc = read_http(i, &in, false, until_ms, &body);
    if (rc == 0 && (!text_starts(in.data, "HTTP/1.1 101") || strstr(in.data, accept) == NULL))
        rc = -EPROTO;
    buf_clear(&in);
    return rc;
}

int inspector_connect(struct inspector *i, unsigned port, uint64_t timeout_ms, char *why) {
    uint64_t until = clock_mono_ms() + timeout_ms;
    char path[PATH_BYTES];
    int rc = ask_path(i, port, path, until);

    if (rc == 0)
        rc = upgrade(i, port, path, until);
    if (rc != 0)
        (void)snprintf(why, 256, "Node's inspector on 127.0.0.1:%u did not let us in: %s", port,
                       rc == -EPROTO ? "what answers there is no inspector" : strerror(-rc));
    return rc;
}

/* --- messages ------------------------------------------------------------------------------------------------------------ */

/* Passes on all but the last two bytes that have come so far. */
static int stream_piece(struct inspector *i, const char *data, size_t len) {
    int rc = 0;

    if (len >= 2) {
        rc = output_push(i->stream, i->tail, i->tail_len);
        if (rc == 0)
            rc = output_push(i->stream, data, len - 2);
        memcpy(i->tail, data + len - 2, 2);
        i->tail_len = 2;
    } else if (len == 1 && i->tail_len == 2) {
        rc = output_push(i->stream, i->tail, 1);
        i->tail[0] = i->tail[1];
        i->tail[1] = data[0];
    } else if (len == 1) {
        i->tail[i->tail_len++] = data[0];
    }
    return rc;
}

static int end_stream(struct inspector *i) {
    bool good = i->tail_len == 2 && memcmp(i->tail, "}}", 2) == 0;

    i->streaming = false;
    i->stream = NULL;
    i->answered = true;
    return good ? 0 : -EPROTO;
}

static bool begins(const struct buf *b, const char *head) {
    return b->len >= strlen(head) && memcmp(b->data, head, strlen(head)) == 0;
}

/* {"method":"Debugger.scriptParsed","params":{"scriptId":"97","url":"file:///app/server.js",…: a paused stack has ids only. */
static void keep_script(struct inspector *i) {
    static const char HEAD[] = "{\"method\":\"Debugger.scriptParsed\",\"params\":{\"scriptId\":\"";
    static const char URL[] = "\",\"url\":\"";
    const char *id, *url, *end;
    size_t digits;

    if (!begins(&i->message, HEAD))
        return;
    id = i->message.data + strlen(HEAD);
    digits = strspn(id, "0123456789");
    if (digits == 0 || strncmp(id + digits, URL, strlen(URL)) != 0)
        return;
    url = id + digits + strlen(URL);
    for (end = url; *end != '"' && *end != '\0'; end++)
        if (*end == '\\' && end[1] != '\0')
            end++;
    if (*end != '"' || i->scripts.max - i->scripts.len < digits + (size_t)(end - url) + 8)
        return;
    buf_printf(&i->scripts, "\n%.*s ", (int)digits, id);
    buf_add(&i->scripts, url - 1, (size_t)(end - url) + 2);
}

static int end_message(struct inspector *i) {
    char id[32], method[96];
    struct buf *to = NULL;

    (void)snprintf(id, sizeof(id), "{\"id\":%llu,", (unsigned long long)i->id);
    (void)snprintf(method, sizeof(method), "{\"method\":\"%s\"", i->event != NULL ? i->event : "");
    if (begins(&i->message, id)) {
        i->answered = true;
        to = &i->answer;
    } else if (i->event != NULL && !i->happened && begins(&i->message, method)) {
        i->happened = true;
        to = &i->happening;
    }
    if (to != NULL) {
        buf_reset(to);
        if (!i->skip)
            buf_add(to, i->message.data, i->message.len);
        if (i->skip || to->err != 0)
            return to->err == -ENOMEM ? -ENOMEM : -EMSGSIZE;
    }
    keep_script(i);
    i->skip = false;
    buf_reset(&i->message);
    return i->scripts.err;
}

static int on_data(void *arg, const char *data, size_t len, bool last) {
    struct inspector *i = arg;
    int rc = 0;

    if (!i->streaming && i->stream != NULL) {
        /* Enough of the beginning to tell whether this is the one. */
        size_t want = i->stream_head_len > i->message.len ? i->stream_head_len - i->message.len : 0;
        size_t n = len < want ? len : want;

        buf_add(&i->message, data, n);
        data += n;
        len -= n;
        if (n > 0 && begins(&i->message, i->stream_head)) {
            i->streaming = true;
            i->tail_len = 0;
            buf_reset(&i->message);
        }
    }
    if (i->streaming) {
        rc = stream_piece(i, data, len);
        return rc == 0 && last ? end_stream(i) : rc;
    }
    if (!i->skip)
        buf_add(&i->message, data, len);
    if (i->message.err == -ENOMEM)
        return -ENOMEM;
    if (i->message.err != 0) { /* longer than anything that is looked at */
        i->message.err = 0;
        i->skip = true;
    }
    return last ? end_message(i) : 0;
}

static int send_frame(struct inspector *i, enum websocket_opcode opcode, char *data, size_t len) {
    uint8_t head[WEBSOCKET_HEAD_BYTES], mask[4];
    size_t n;
    int rc;

    if (getrandom(mask, sizeof(mask), 0) != (ssize_t)sizeof(mask))
        return -EIO;
    n = websocket_head(head, opcode, len, mask);
    websocket_mask(data, len, mask);
    rc = write_all(i, head, n, clock_mono_ms() + 5000);
    return rc != 0 ? rc : write_all(i, data, len, clock_mono_ms() + 5000);
}

static int on_control(void *arg, enum websocket_opcode opcode, const char *data, size_t len) {
    struct inspector *i = arg;
    char copy[WEBSOCKET_CONTROL_BYTES];

    if (opcode == WEBSOCKET_CLOSE)
        i->closed = true;
    if (opcode != WEBSOCKET_PING)
        return 0;
    memcpy(copy, data, len);
    return send_frame(i, WEBSOCKET_PONG, copy, len);
}

/* Reads until *flag, or until the end. */
static int read_until(struct inspector *i, const bool *flag, uint64_t timeout_ms) {
    static const struct websocket_callbacks CALLBACKS = {on_data, on_control};
    uint64_t until = clock_mono_ms() + timeout_ms;
    char *piece = mem_alloc(READ_BYTES);
    int rc = piece != NULL ? 0 : -ENOMEM;

    while (rc == 0 && !*flag) {
        ssize_t n = i->closed ? 0 : read_some(i, piece, READ_BYTES, until);

        if (n == 0) {
            i->closed = true;
            rc = *flag ? 0 : -EPIPE;
        } else if (n < 0) {
            rc = (int)n;
        } else {
            rc = websocket_push(&i->reader, piece, (size_t)n, &CALLBACKS, i);
        }
    }
    mem_free(piece);
    return rc;
}

int inspector_send(struct inspector *i, const char *method, const char *params) {
    struct buf out;
    int rc;

    i->answered = false;
    i->id++;
    buf_init(&out, 65536);
    buf_printf(&out, "{\"id\":%llu,\"method\":\"%s\",\"params\":%s}", (unsigned long long)i->id,
               method, params != NULL ? params : "{}");
    rc = out.err;
    if (rc == 0)
        rc = send_frame(i, WEBSOCKET_TEXT, out.data, out.len);
    buf_clear(&out);
    return rc;
}

int inspector_call(struct inspector *i, const char *method, const char *params,
                   uint64_t timeout_ms) {
    char error[48];
    int rc = inspector_send(i, method, params);

    if (rc == 0)
        rc = read_until(i, &i->answered, timeout_ms);
    (void)snprintf(error, sizeof(error), "{\"id\":%llu,\"error\"", (unsigned long long)i->id);
    return rc == 0 && begins(&i->answer, error) ? -EREMOTEIO : rc;
}

int inspector_stream(struct inspector *i, const char *method, const char *key, struct output *out,
                     uint64_t timeout_ms) {
    int rc = inspector_send(i, method, NULL);

    if (rc != 0)
        return rc;
    i->stream = out;
    i->stream_head_len =
        (size_t)snprintf(i->stream_head, sizeof(i->stream_head),
                         "{\"id\":%llu,\"result\":{\"%s\":", (unsigned long long)i->id, key);
    rc = read_until(i, &i->answered, timeout_ms);
    if (rc == 0 && i->stream != NULL) /* answered, and not with what was asked for */
        rc = -EREMOTEIO;
    i->stream = NULL;
    return rc;
}

void inspector_expect(struct inspector *i, const char *method) {
    i->event = method;
    i->happened = false;
}

int inspector_wait(struct inspector *i, uint64_t timeout_ms) {
    int rc = read_until(i, &i->happened, timeout_ms);

    i->event = NULL;
    return rc;
}

int inspector_wait_closed(struct inspector *i, uint64_t timeout_ms) {
    int rc = read_until(i, &i->closed, timeout_ms);

    return i->closed ? 0 : rc;
}
