/* A broker, with the thread that may wait for it.
 *
 * All went well: broker_send -> (mailbox, eventfd) -> thread: amqp_client_send -> (mailbox, uv_async) -> on_news -> done.
 *
 * Loop and thread share one struct mailbox, under its lock, freed by whoever leaves last. Ways to hang, and what ends them:
 *   a broker that reads nothing      on_watch, after CALL_MS: shutdown(2) of the socket
 *   the helper ends                  the thread is woken and says goodbye; after GOODBYE_MS its socket is shut down; after LEAVE_MS it
 *                                    is left alone (it can only hang in the look-up of a name) and frees its things when it comes back
 * A connection without use is closed after LINGER_MS: a broker with a thousand containers need not hold a thousand connections. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/notify/amqp.h"
#include "uploader/notify/target.h"

#define STACK_BYTES (256 * 1024)
#define CALL_MS     15000
#define GOODBYE_MS  1200
#define LEAVE_MS    1900
#define WATCH_MS    100 /* while closing */
#define BUSY_MS     1000
#define LINGER_MS   60000

struct mailbox {
    pthread_mutex_t lock;
    int refs;    /* loop, thread */
    int wake_fd; /* eventfd: there is something for the thread. Written and emptied under the lock */
    struct amqp_client *client; /* the thread's alone once it runs */
    uv_async_t *async;          /* NULL: nobody listens any more */
    /* For the thread. */
    bool stop, wanted;
    char *message; /* id, NUL, body; owned. NULL: try only */
    size_t len;    /* of the body */
    /* From the thread. */
    bool ended, answered, connected;
    int socket;             /* -1: none that may be shut down */
    uint64_t call_since_ms; /* 0: not in a call that may hang */
    enum answer answer;
    bool returned;
    char error[AMQP_WHY_BYTES];
    char blocked[AMQP_WHY_BYTES]; /* "": not */
};

struct broker {
    struct target base;
    uv_loop_t *loop;
    struct mailbox *box;
    uv_thread_t thread;
    uv_async_t async;
    uv_timer_t watch;
    uint64_t closing_since_ms;
    unsigned handles; /* open */
    bool running;     /* the thread has been started and not joined or left */
    bool closing, busy;
    bool connected; /* as last heard */
    char blocked[AMQP_WHY_BYTES];
    void (*closed)(void *arg);
    void *closed_arg;
};

/* --- both sides --------------------------------------------------------------------------------- */

static void box_unref(struct mailbox *box) {
    bool last;

    (void)pthread_mutex_lock(&box->lock); /* ours, and never held by one who ends */
    last = --box->refs == 0;
    (void)pthread_mutex_unlock(&box->lock);
    if (!last)
        return;
    amqp_client_free(box->client);
    mem_free(box->message);
    if (box->wake_fd >= 0)
        close(box->wake_fd);
    (void)pthread_mutex_destroy(&box->lock);
    mem_free(box);
}

/* --- on the thread ------------------------------------------------------------------------------ */

static void tell(struct mailbox *box) {
    if (box->async != NULL)
        (void)uv_async_send(
            box->async); /* the handle is open: it is closed after async was set to NULL */
}

static void on_socket(void *arg, int fd) {
    struct mailbox *box = arg;

    (void)pthread_mutex_lock(&box->lock);
    box->socket = fd;
    if (fd >= 0 && box->stop)
        (void)shutdown(fd, SHUT_RDWR); /* a connection that nobody wants any more */
    (void)pthread_mutex_unlock(&box->lock);
}

static void on_calling(void *arg, bool inside) {
    struct mailbox *box = arg;

    (void)pthread_mutex_lock(&box->lock);
    box->call_since_ms = inside ? clock_mono_ms() : 0;
    (void)pthread_mutex_unlock(&box->lock);
}

static void on_blocked(void *arg, const char *reason) {
    struct mailbox *box = arg;

    (void)pthread_mutex_lock(&box->lock);
    (void)text_copy(box->blocked, sizeof(box->blocked), reason != NULL ? reason : "");
    tell(box);
    (void)pthread_mutex_unlock(&box->lock);
}

/* false: to end. *ret_wanted: there is something to do, with the message in *ret, to be freed. */
static bool look(struct mailbox *box, bool *ret_wanted, char **ret, size_t *ret_len) {
    uint64_t count;
    bool go_on;

    (void)pthread_mutex_lock(&box->lock);
    (void)!read(box->wake_fd, &count, sizeof(count)); /* does not block; empty is fine */
    go_on = !box->stop;
    *ret_wanted = box->wanted;
    box->wanted = false;
    *ret = box->message;
    *ret_len = box->len;
    box->message = NULL;
    (void)pthread_mutex_unlock(&box->lock);
    return go_on;
}

static void put_connected(struct mailbox *box, const char *error) {
    (void)pthread_mutex_lock(&box->lock);
    box->connected = amqp_client_connected(box->client);
    (void)text_copy(box->error, sizeof(box->error), error);
    tell(box);
    (void)pthread_mutex_unlock(&box->lock);
}

static void work(struct mailbox *box, const char *text, size_t len) {
    const struct amqp_message message = {
        .id = text, .body = text != NULL ? text + strlen(text) + 1 : NULL, .len = len};
    char why[AMQP_WHY_BYTES] = "";
    bool returned = false;
    enum answer a = amqp_client_send(box->client, &message, why, &returned);

    (void)pthread_mutex_lock(&box->lock);
    box->answered = true;
    box->answer = a;
    box->returned = returned;
    box->connected = amqp_client_connected(box->client);
    (void)text_copy(box->error, sizeof(box->error), why);
    tell(box);
    (void)pthread_mutex_unlock(&box->lock);
}

/* Until there is something to do. */
static void rest(struct mailbox *box, uint64_t last_use_ms) {
    struct pollfd wake = {.fd = box->wake_fd, .events = POLLIN};
    uint64_t idle_ms = clock_mono_ms() - last_use_ms;
    char why[AMQP_WHY_BYTES] = "";

    if (!amqp_client_connected(box->client)) {
        (void)poll(&wake, 1, -1);
    } else if (idle_ms >= LINGER_MS) {
        amqp_client_disconnect(box->client);
        put_connected(box, "");
    } else if (!amqp_client_idle(box->client, (int)(LINGER_MS - idle_ms), why)) {
        put_connected(box, why);
    }
}

static void thread_main(void *arg) {
    struct mailbox *box = arg;
    uint64_t last_use_ms = clock_mono_ms();
    char *message;
    size_t len;
    bool wanted;

    while (look(box, &wanted, &message, &len)) {
        if (wanted) {
            work(box, message, len);
            mem_free(message);
            last_use_ms = clock_mono_ms();
        } else {
            rest(box, last_use_ms);
        }
    }
    mem_free(message);
    amqp_client_disconnect(box->client);
    (void)pthread_mutex_lock(&box->lock);
    box->ended = true;
    tell(box);
    (void)pthread_mutex_unlock(&box->lock);
    box_unref(box);
}

/* --- on the loop -------------------------------------------------------------------------------- */

static void wake(struct mailbox *box) {
    uint64_t one = 1;

    (void)!write(box->wake_fd, &one, sizeof(one)); /* fails only when it is readable already */
}

static void broker_free(struct broker *b) {
    box_unref(b->box);
    mem_free(b->base.name);
    mem_free(b);
}

static void on_handle_closed(uv_handle_t *h) {
    struct broker *b = h->data;
    void (*closed)(void *arg) = b->closed;
    void *arg = b->closed_arg;

    if (--b->handles > 0)
        return;
    broker_free(b);
    closed(arg);
}

static void close_handles(struct broker *b) {
    (void)pthread_mutex_lock(&b->box->lock);
    b->box->async = NULL;
    (void)pthread_mutex_unlock(&b->box->lock);
    uv_close((uv_handle_t *)&b->async, on_handle_closed);
    uv_close((uv_handle_t *)&b->watch, on_handle_closed);
}

static void shut_socket(struct mailbox *box) {
    if (box->socket >= 0)
        (void)shutdown(box->socket, SHUT_RDWR);
}

static void on_watch(uv_timer_t *t) {
    struct broker *b = container_of(t, struct broker, watch);
    struct mailbox *box = b->box;
    uint64_t now = clock_mono_ms();
    bool leave = b->closing && now - b->closing_since_ms >= LEAVE_MS;

    (void)pthread_mutex_lock(&box->lock);
    if (box->call_since_ms != 0 && now - box->call_since_ms >= CALL_MS)
        shut_socket(box);
    if (b->closing && now - b->closing_since_ms >= GOODBYE_MS)
        shut_socket(box);
    (void)pthread_mutex_unlock(&box->lock);
    if (!leave)
        return;
    (void)pthread_detach(b->thread);
    b->running = false;
    close_handles(b);
}

static void note_blocked(struct broker *b, const char *reason) {
    if (b->blocked[0] == '\0' && reason[0] != '\0')
        log_warn("notify: %s: %s; messages wait", b->base.name, reason);
    else if (b->blocked[0] != '\0' && reason[0] == '\0')
        log_info("notify: %s takes messages again, or is gone", b->base.name);
    (void)text_copy(b->blocked, sizeof(b->blocked), reason);
}

static void on_news(uv_async_t *async) {
    struct broker *b = container_of(async, struct broker, async);
    struct mailbox *box = b->box;
    char error[TARGET_ERROR_BYTES];
    struct target_result r = {.retry_after_ms = -1, .error = error};
    bool answered, ended, was_connected = b->connected;

    (void)pthread_mutex_lock(&box->lock);
    answered = box->answered;
    ended = box->ended;
    box->answered = false;
    r.answer = box->answer;
    r.returned = box->returned;
    b->connected = box->connected;
    (void)text_copy(error, sizeof(error), box->error);
    note_blocked(b, box->blocked);
    (void)pthread_mutex_unlock(&box->lock);
    if (b->closing) {
        if (ended && b->running) {
            (void)uv_thread_join(&b->thread); /* it is at its end */
            b->running = false;
            close_handles(b);
        }
        return;
    }
    if (answered) {
        b->busy = false;
        (void)uv_timer_stop(&b->watch);
        b->base.done(b->base.arg, &r);
    } else if (was_connected && !b->connected && error[0] != '\0') {
        log_info("notify: %s: %s; the next message makes a new one", b->base.name, error);
    }
}

static int open_handles(struct broker *b) {
    int rc;

    if (b->handles > 0)
        return 0;
    rc = uv_async_init(b->loop, &b->async, on_news);
    if (rc != 0)
        return rc;
    (void)uv_timer_init(b->loop, &b->watch); /* cannot fail */
    b->async.data = b->watch.data = b;
    b->handles = 2;
    b->box->async = &b->async; /* no thread yet: no lock */
    return 0;
}

/* Signals are for the loop's thread. */
static int start_thread(struct broker *b) {
    uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK_BYTES};
    sigset_t all, old;
    int rc = open_handles(b);

    if (rc != 0)
        return rc;
    b->box->refs = 2;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = uv_thread_create_ex(&b->thread, &options, thread_main, b->box);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0)
        b->running = true;
    else
        b->box->refs = 1;
    return rc;
}

static int copy_message(char **ret, const char *id, const char *body, size_t len) {
    size_t n = strlen(id) + 1;

    *ret = mem_alloc(n + len + 1);
    if (*ret == NULL)
        return -ENOMEM;
    memcpy(*ret, id, n);
    memcpy(*ret + n, body, len);
    (*ret)[n + len] = '\0';
    return 0;
}

static int broker_send(struct target *t, const char *id, const char *body, size_t len) {
    struct broker *b = container_of(t, struct broker, base);
    struct mailbox *box = b->box;
    char *message = NULL;
    int rc = id != NULL ? copy_message(&message, id, body, len) : 0;

    if (rc == 0 && !b->running)
        rc = start_thread(b);
    if (rc != 0) {
        mem_free(message);
        return rc;
    }
    (void)pthread_mutex_lock(&box->lock);
    box->message = message;
    box->len = len;
    box->wanted = true;
    wake(box);
    (void)pthread_mutex_unlock(&box->lock);
    b->busy = true;
    (void)uv_timer_start(&b->watch, on_watch, BUSY_MS, BUSY_MS); /* the handle is open */
    return 0;
}

static const char *broker_state(const struct target *t, const char **ret_why) {
    const struct broker *b = container_of(t, struct broker, base);

    if (b->blocked[0] != '\0') {
        *ret_why = b->blocked;
        return "blocked";
    }
    return b->connected ? "up" : NULL;
}

static void broker_close(struct target *t, void (*closed)(void *arg), void *arg) {
    struct broker *b = container_of(t, struct broker, base);
    struct mailbox *box = b->box;

    b->closing = true;
    b->closing_since_ms = clock_mono_ms();
    b->closed = closed;
    b->closed_arg = arg;
    if (b->handles == 0) {
        broker_free(b);
        closed(arg);
        return;
    }
    if (!b->running) {
        close_handles(b);
        return;
    }
    (void)pthread_mutex_lock(&box->lock);
    box->stop = true;
    wake(box);
    /* With a message under way there is nothing to be polite about: it may hang anywhere. */
    if (b->busy)
        shut_socket(box);
    (void)pthread_mutex_unlock(&box->lock);
    (void)uv_timer_start(&b->watch, on_watch, WATCH_MS, WATCH_MS); /* the handle is open */
}

static const struct target_ops ops = {
    .send = broker_send, .state = broker_state, .close = broker_close, .probes = true};

/* --- making ------------------------------------------------------------------------------------- */

static int make_box(struct mailbox **ret, struct amqp_url *url, const struct notify_env *env) {
    struct mailbox *box = mem_calloc(1, sizeof(*box));
    const struct amqp_hooks hooks = {
        .arg = box, .socket = on_socket, .calling = on_calling, .blocked = on_blocked};
    int rc;

    if (box == NULL)
        return -ENOMEM;
    box->refs = 1;
    box->socket = -1;
    box->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    rc = box->wake_fd >= 0 ? 0 : -errno;
    (void)pthread_mutex_init(&box->lock, NULL); /* of the plain kind: cannot fail */
    if (rc == 0)
        rc = amqp_client_new(&box->client, url, env->tls, env->app, box->wake_fd, &hooks);
    if (rc != 0) {
        box_unref(box);
        return rc;
    }
    *ret = box;
    return 0;
}

int target_amqp_new(struct target **ret, const char *spec, const struct notify_env *env,
                    struct buf *why) {
    struct broker *b = mem_calloc(1, sizeof(*b));
    struct amqp_url url;
    struct buf name;
    int rc;

    if (b == NULL)
        return -ENOMEM;
    buf_init(&name, 2048);
    rc = amqp_url_parse(&url, spec, why);
    if (rc != 0)
        goto out;
    amqp_url_name(&url, &name);
    rc = name.err;
    if (rc == 0)
        rc = make_box(&b->box, &url, env); /* takes url */
    amqp_url_clear(&url);
    if (rc != 0)
        goto out;
    b->loop = env->loop;
    b->base.ops = &ops;
    b->base.name = buf_take(&name, NULL);
    *ret = &b->base;
out:
    buf_clear(&name);
    if (rc != 0)
        mem_free(b);
    return rc;
}
