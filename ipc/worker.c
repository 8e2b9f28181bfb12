/* Happy path: worker_new → on_poll → read_some → on_frame → take_hello → callbacks.hello → welcome; then on_frame → take_sample →
 * callbacks.sample … and ipc_worker_ack → flush; the peer closes → worker_close → on_handle_closed → callbacks.closed.
 *
 * Ways to fail: the hello is not valid, or the agent says no (answered, then closed); a frame is not valid (closed, counted); a
 * frame, or the hello, is not whole in time (on_timeout); no memory (closed, counted; the worker comes again); the peer does not
 * read (acks wait as one number, so it costs nothing); the socket breaks (what has come is read to its end, then closed). */
#include "ipc/worker.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "agent/base/counters.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "ipc/frame.h"
#include "ipc/payload.h"

#define LOG_EVERY_MS      10000
#define LATER_FROM_MS     1000
#define LATER_TO_MS       3000
#define FULL_HELLO_MS     1000 /* for the hello of one that has no room: it holds a spare descriptor */
#define SAMPLE_HEAD_BYTES 16
#define BEAT_BYTES        8
#define LAST_READS        64 /* of a broken socket; more than a receive buffer holds */
#define STATUS_FILE_BYTES 4096

struct ipc_worker {
    struct worker_host *host;
    struct ipc_worker *prev, *next;
    struct poller_watch watch;
    uv_timer_t timer; /* runs until the hello has come, and while a frame has begun */
    int fd;
    struct ipc_peer peer;
    struct frame_reader reader;
    struct schema *schema;
    void *user;
    struct buf out; /* what the socket did not take yet, of which `sent` bytes went */
    size_t sent;
    uint64_t
        ack_waiting; /* the newest that waits for the socket; it makes the older ones needless. 0: none */
    const char *error;
    bool full;
    bool welcomed;
    bool taken; /* callbacks.hello said 0: callbacks.closed is owed */
    bool writing;
    bool deaf;     /* the peer does not read any more */
    bool progress; /* a frame was whole in the last read */
    bool closing;
};

uint64_t worker_later_ms(void) {
    uint32_t r = 0;

    if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
        r = 0; /* without entropy: not spread, still right */
    return LATER_FROM_MS + r % (LATER_TO_MS - LATER_FROM_MS + 1);
}

/* --- the end ------------------------------------------------------------------------------------------------------------- */

static void unlink_worker(struct ipc_worker *w) {
    if (w->prev != NULL)
        w->prev->next = w->next;
    else
        w->host->first = w->next;
    if (w->next != NULL)
        w->next->prev = w->prev;
    w->host->n--;
    w->host->n_full -= w->full ? 1 : 0;
}

static void finish(struct ipc_worker *w) {
    struct worker_host *host = w->host;

    if (w->taken)
        host->callbacks.closed(host->arg, w->user, w->error);
    (void)close(w->fd);
    if (w->peer.pidfd >= 0)
        (void)close(w->peer.pidfd);
    schema_unref(w->schema);
    frame_reader_clear(&w->reader);
    buf_clear(&w->out);
    unlink_worker(w);
    mem_free(w);
    host->gone(host);
}

static void on_timer_closed(uv_handle_t *handle) {
    finish(container_of((uv_timer_t *)handle, struct ipc_worker, timer));
}

void worker_close(struct ipc_worker *w, const char *error) {
    if (w->closing)
        return;
    w->closing = true;
    w->error = error;
    poller_remove(w->host->poller, &w->watch);
    uv_close((uv_handle_t *)&w->timer, on_timer_closed);
}

void worker_close_all(struct worker_host *host) {
    for (struct ipc_worker *w = host->first; w != NULL; w = w->next)
        worker_close(w, NULL);
}

void ipc_worker_close(struct ipc_worker *w) {
    worker_close(w, NULL);
}

/* The peer broke the protocol. */
static void close_invalid(struct ipc_worker *w, const char *error, const char *why) {
    counter_add(COUNTER_WORKERS_CLOSED_PROTOCOL, 1);
    if (log_due(&w->host->log_invalid, LOG_EVERY_MS))
        log_warn("workers' socket: process %d sent %s%s%s; its connection is closed",
                 (int)w->peer.pid, error, *why != '\0' ? ": " : "", why);
    worker_close(w, error);
}

static void close_no_memory(struct ipc_worker *w) {
    counter_add(COUNTER_OUT_OF_MEMORY, 1);
    worker_close(w, "no memory");
}

/* --- writing ------------------------------------------------------------------------------------------------------------- */

static void watch(struct ipc_worker *w, bool writing) {
    if (w->closing || w->writing == writing)
        return;
    w->writing = writing;
    poller_want_write(w->host->poller, &w->watch, writing);
}

static void become_deaf(struct ipc_worker *w) {
    w->deaf = true; /* what it has sent is still read; its end is seen there */
    w->ack_waiting = 0;
    w->sent = 0;
    buf_clear(&w->out);
}

static void flush_out(struct ipc_worker *w) {
    while (w->sent < w->out.len) {
        ssize_t n =
            send(w->fd, w->out.data + w->sent, w->out.len - w->sent, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN && errno != ENOBUFS)
            become_deaf(w);
        if (n < 0)
            break;
        w->sent += (size_t)n;
    }
    if (w->sent == w->out.len) {
        w->sent = 0;
        buf_clear(&w->out);
    }
    watch(w, w->out.len > 0);
}

static int queue_ack(struct ipc_worker *w, uint64_t number) {
    int rc;

    message_write_ack(&w->out, number);
    rc = w->out.err;
    w->out.err = 0; /* all of it or nothing was added, so the stream is whole */
    if (rc == 0)
        flush_out(w);
    return rc;
}

int ipc_worker_ack(struct ipc_worker *w, uint64_t number) {
    int rc;

    if (w->closing || w->deaf)
        return -EPIPE;
    if (!w->welcomed || w->out.len > 0) {
        if (number > w->ack_waiting)
            w->ack_waiting = number;
        return 0;
    }
    rc = queue_ack(w, number);
    if (rc != 0)
        counter_add(COUNTER_OUT_OF_MEMORY, 1); /* the ack of the next batch covers it */
    return rc;
}

int ipc_worker_order(struct ipc_worker *w, const char *json, size_t len) {
    int rc;

    if (len < 1 || len > FRAME_PAYLOAD_BYTES)
        return -EMSGSIZE;
    if (w->closing || w->deaf)
        return -EPIPE;
    if (!w->welcomed)
        return -EAGAIN;
    message_write_order(&w->out, json, len);
    rc = w->out.err;
    w->out.err = 0; /* as with an ack: all of it or nothing was added */
    if (rc == 0)
        flush_out(w);
    return rc == -ENOBUFS ? -EAGAIN : rc;
}

static void on_writable(struct ipc_worker *w) {
    uint64_t number = w->ack_waiting;

    flush_out(w);
    if (number == 0 || w->out.len > 0 || w->deaf)
        return;
    w->ack_waiting = 0;
    if (queue_ack(w, number) != 0)
        counter_add(COUNTER_OUT_OF_MEMORY, 1);
}

/* The last frame to one that is sent away. The socket is new and empty: it takes it at once, or the peer learns it by the end. */
static void say_last(struct ipc_worker *w, const char *error) {
    if (w->out.err == 0)
        flush_out(w);
    worker_close(w, error);
}

static void answer_later(struct ipc_worker *w, const char *reason) {
    counter_add(COUNTER_WORKERS_LATER, 1);
    message_write_later(&w->out, worker_later_ms(), reason);
    say_last(w, "told to come later");
}

static void answer_no_room(struct ipc_worker *w) {
    answer_later(w, "no room for more workers");
}

static void answer_refused(struct ipc_worker *w, const char *reason) {
    counter_add(COUNTER_WORKERS_REFUSED_HELLO, 1);
    if (log_due(&w->host->log_invalid, LOG_EVERY_MS))
        log_warn("workers' socket: the hello of process %d is refused: %s", (int)w->peer.pid,
                 reason);
    message_write_refused(&w->out, reason);
    say_last(w, "refused");
}

/* --- frames -------------------------------------------------------------------------------------------------------------- */

/* The pid that a process has in its own, innermost pid namespace; 0: not known. */
static pid_t innermost_pid(pid_t pid) {
    char path[32], status[STATUS_FILE_BYTES], *line, *end, *last;
    uint64_t v;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    if (fs_read_at(AT_FDCWD, path, status, sizeof(status)) < 0)
        return 0;
    line = strstr(status, "\nNSpid:");
    end = line != NULL ? strchr(line + 1, '\n') : NULL;
    if (end == NULL)
        return 0;
    *end = '\0';
    last = strrchr(line, '\t');
    return last != NULL && text_u64(last + 1, &v) == 0 ? (pid_t)v : 0;
}

/* What the kernel says of the pid wins. A difference is normal for a worker in a pid namespace of its own; else it is a lie. */
static void note_pid(struct ipc_worker *w, const struct hello *hello) {
    pid_t seen = w->peer.pid;

    if (seen <= 0 || seen == hello->pid || !log_due(&w->host->log_pid, LOG_EVERY_MS))
        return;
    if (innermost_pid(seen) == hello->pid)
        log_info("process %d calls itself %d: it lives in a pid namespace of its own; taken as %d",
                 (int)seen, (int)hello->pid, (int)seen);
    else
        log_warn("process %d claims to be %d, which the kernel does not confirm; taken as %d",
                 (int)seen, (int)hello->pid, (int)seen);
}

static void welcome(struct ipc_worker *w, const struct welcome *answer) {
    counter_add(COUNTER_WORKERS_CONNECTED, 1);
    message_write_welcome(&w->out, answer);
    if (w->out.err != 0) {
        close_no_memory(w);
        return;
    }
    w->welcomed = true;
    flush_out(w);
    if (w->out.len == 0)
        on_writable(w); /* an ack that was given from inside callbacks.hello */
}

static void take_hello(struct ipc_worker *w, const uint8_t *payload, size_t len) {
    struct worker_host *host = w->host;
    char why[PAYLOAD_WHY_BYTES] = "";
    struct welcome answer = {0};
    struct hello hello;
    int rc;

    if (w->full) {
        answer_no_room(w);
        return;
    }
    rc = message_read_hello((const char *)payload, len, &hello, why);
    if (rc == -ENOMEM) {
        counter_add(COUNTER_OUT_OF_MEMORY, 1);
        answer_later(w, "no memory");
        return;
    }
    if (rc != 0) {
        answer_refused(w, why);
        return;
    }
    note_pid(w, &hello);
    rc = host->callbacks.hello(host->arg, w, &w->peer, &hello, &answer, &w->user, why);
    why[sizeof(why) - 1] = '\0';
    w->taken = rc == 0;
    if (rc == 0)
        w->schema = schema_ref(hello.schema);
    message_clear_hello(&hello);
    if (w->closing)
        return;
    if (rc == 0)
        welcome(w, &answer);
    else if (rc == -EAGAIN)
        answer_later(w, why);
    else
        answer_refused(w, why);
}

static void read_slots(double *slots, const uint8_t *p, size_t n) {
    uint64_t bits;

    for (size_t i = 0; i < n; i++) {
        memcpy(&bits, p + i * sizeof(bits), sizeof(bits));
        bits = le64toh(bits);
        memcpy(&slots[i], &bits, sizeof(bits));
    }
}

/* NaN is "not known" and stays. */
static unsigned refuse_values(const struct schema *s, double *slots) {
    unsigned refused = 0;

    for (size_t i = 0; i < s->n_fields; i++) {
        const struct field *f = &s->fields[i];
        size_t n = f->kind == FIELD_HISTOGRAM ? f->n_bounds + 2u : 1u;
        size_t counts = f->kind == FIELD_HISTOGRAM ? n - 1 : f->kind == FIELD_COUNTER ? 1 : 0;

        for (size_t k = 0; k < n; k++) {
            double *v = &slots[f->slot + k];

            if (!isinf(*v) && !(k < counts && *v < 0))
                continue;
            *v = NAN;
            refused++;
        }
    }
    return refused;
}

static void take_sample(struct ipc_worker *w, const uint8_t *payload, size_t len) {
    struct worker_host *host = w->host;
    uint64_t number;
    double clock_s;
    unsigned refused;

    if (len != SAMPLE_HEAD_BYTES + sizeof(double) * w->schema->n_slots) {
        close_invalid(w, "a sample whose length does not fit its hello", "");
        return;
    }
    number = frame_get_u64(payload);
    clock_s = frame_get_f64(payload + 8);
    if (number == 0 || !isfinite(clock_s) || clock_s < 0) {
        close_invalid(w, "a sample without a number or a clock", "");
        return;
    }
    read_slots(host->slots, payload + SAMPLE_HEAD_BYTES, w->schema->n_slots);
    refused = refuse_values(w->schema, host->slots);
    if (refused > 0)
        counter_add(COUNTER_VALUES_REFUSED, refused);
    host->callbacks.sample(host->arg, w->user, number, clock_s, host->slots);
}

static void take_event(struct ipc_worker *w, const uint8_t *payload, size_t len) {
    struct worker_host *host = w->host;
    char why[PAYLOAD_WHY_BYTES];
    struct worker_event event;
    int rc = message_read_event((const char *)payload, len, &event, why);

    if (rc == 0)
        host->callbacks.event(host->arg, w->user, &event);
    else if (rc == -ENOMEM)
        counter_add(COUNTER_EVENTS_DROPPED, 1);
    else if (rc != -ENOENT)
        close_invalid(w, "an event that is not valid", why);
}

static void take_answer(struct ipc_worker *w, const uint8_t *payload, size_t len) {
    struct worker_host *host = w->host;
    char why[PAYLOAD_WHY_BYTES];
    uint64_t order;
    int rc = message_read_answer((const char *)payload, len, &order, why);

    if (rc == 0)
        host->callbacks.answer(host->arg, w->user, order, (const char *)payload, len);
    else if (rc == -ENOMEM)
        counter_add(COUNTER_OUT_OF_MEMORY, 1); /* the order ends by its deadline */
    else
        close_invalid(w, "an answer that is not valid", why);
}

static void take_beat(struct ipc_worker *w, const uint8_t *payload, size_t len) {
    (void)payload; /* the sender's clock is for those who read the traffic */
    if (len != BEAT_BYTES)
        close_invalid(w, "a beat of another length than 8", "");
    else
        w->host->callbacks.beat(w->host->arg, w->user);
}

static void take_second_hello(struct ipc_worker *w, const uint8_t *payload, size_t len) {
    (void)payload;
    (void)len;
    close_invalid(w, "a second hello", "");
}

static int on_frame(void *arg, uint8_t type, const uint8_t *payload, size_t len) {
    static void (*const takers[])(struct ipc_worker * w, const uint8_t *payload, size_t len) = {
        [FRAME_HELLO] = take_second_hello, [FRAME_SAMPLE] = take_sample, [FRAME_EVENT] = take_event,
        [FRAME_BEAT] = take_beat,          [FRAME_ANSWER] = take_answer,
    };
    struct ipc_worker *w = arg;

    w->progress = true;
    if (!w->welcomed && type == FRAME_HELLO)
        take_hello(w, payload, len);
    else if (!w->welcomed)
        close_invalid(w, "something else before its hello", "");
    else if (type < ARRAY_LEN(takers) && takers[type] != NULL)
        takers[type](w, payload, len);
    else
        counter_add(COUNTER_FRAMES_UNKNOWN, 1);
    return w->closing ? -ECANCELED : 0;
}

/* --- reading ------------------------------------------------------------------------------------------------------------- */

static void on_timeout(uv_timer_t *timer);

static void watch_progress(struct ipc_worker *w) {
    if (!w->welcomed)
        return; /* the time until the hello is not extended by anything */
    if (!frame_pending(&w->reader))
        (void)uv_timer_stop(&w->timer);
    else if (w->progress || !uv_is_active((uv_handle_t *)&w->timer))
        (void)uv_timer_start(&w->timer, on_timeout, w->host->stall_ms, 0);
}

/* True when there may be more. */
static bool read_some(struct ipc_worker *w) {
    ssize_t n = recv(w->fd, w->host->bytes, LIMIT_FRAME_BYTES, MSG_DONTWAIT);
    int rc;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) { /* ECONNRESET: it ended without having read our last ack, which is no error */
        worker_close(w, frame_pending(&w->reader) ? "ended in the middle of a frame" : NULL);
        return false;
    }
    w->progress = false;
    rc = frame_feed(&w->reader, w->host->bytes, (size_t)n, on_frame, w);
    if (w->closing)
        return false;
    if (rc == -EMSGSIZE)
        close_invalid(w, "a frame whose length is not allowed", "");
    else if (rc != 0)
        close_no_memory(w);
    else
        watch_progress(w);
    return rc == 0;
}

/* The loop itself may have been late (a stopped helper, a stopped machine): what has come meanwhile counts. */
static void on_timeout(uv_timer_t *timer) {
    struct ipc_worker *w = container_of(timer, struct ipc_worker, timer);

    w->progress = false;
    (void)read_some(w);
    if (w->closing || (w->welcomed && (w->progress || !frame_pending(&w->reader))))
        return;
    if (w->full) {
        answer_no_room(w); /* it need not have said anything for that */
        return;
    }
    counter_add(COUNTER_WORKERS_CLOSED_STALLED, 1);
    worker_close(w, "a frame that did not go on");
}

static void on_ready(struct poller_watch *watch, uint32_t events) {
    struct ipc_worker *w = container_of(watch, struct ipc_worker, watch);
    unsigned reads = 0;

    if ((events & EPOLLERR) != 0) {
        /* The peer ended with something unread of ours; its last words are still there. */
        while (!w->closing && reads++ < LAST_READS && read_some(w))
            continue;
        worker_close(w, NULL);
        return;
    }
    if ((events & EPOLLOUT) != 0)
        on_writable(w);
    if ((events & (EPOLLIN | EPOLLHUP)) != 0 && !w->closing)
        (void)read_some(w);
}

int worker_new(struct worker_host *host, int fd, const struct ipc_peer *peer, bool full) {
    struct ipc_worker *w = mem_calloc(1, sizeof(*w));
    int rc;

    if (w == NULL)
        return -ENOMEM;
    w->host = host;
    w->fd = fd;
    w->peer = *peer;
    w->full = full;
    frame_reader_init(&w->reader);
    buf_init(&w->out, LIMIT_WORKER_SEND_BYTES);
    w->watch = (struct poller_watch){.fd = -1, .ready = on_ready};
    rc = poller_add(host->poller, &w->watch, fd);
    if (rc != 0) {
        mem_free(w);
        return rc;
    }
    (void)uv_timer_init(host->loop, &w->timer); /* these two cannot fail */
    (void)uv_timer_start(&w->timer, on_timeout,
                         full && host->stall_ms > FULL_HELLO_MS ? FULL_HELLO_MS : host->stall_ms,
                         0);
    w->next = host->first;
    if (w->next != NULL)
        w->next->prev = w;
    host->first = w;
    host->n++;
    host->n_full += full ? 1 : 0;
    return 0;
}
