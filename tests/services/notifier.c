/* notifier.c - the notifications alone, for the tests against a real broker: reads orders from standard input, answers in lines.
 *
 *   notifier DATA_DIR LIST [CA_FILE [CERT_FILE KEY_FILE]]
 *   send ID TEXT   -> "sent ID RC", later "kept ID RC"      status -> one line of JSON      counters -> one line of JSON
 *   lag            -> "lag MOST TICKS LATE ALONE": of a timer of 5 ms, since this was asked last: the longest that it came late (ms), how
 *                     often it came, how often more than 10 ms late, and how often a thread that only sleeps was: the machine's share
 *   end            closes everything and says "closed MS"
 *
 * At the end of input it ends at once, as if it had been killed. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "uploader/notify.h"

#define LINE_BYTES 70000
#define TICK_MS    5
#define LATE_NS    10000000

static struct {
    uv_loop_t loop;
    uv_pipe_t in;
    uv_timer_t tick;
    struct http *http;
    struct notify *notify;
    char line[LINE_BYTES];
    size_t len;
    uint64_t last_tick_ns, worst_ns, closing_ms, ticks, late;
    atomic_ulong alone;
} p;

static void on_tick(uv_timer_t *t) {
    uint64_t now = clock_mono_ns(), late = now - p.last_tick_ns;
    (void)t;

    late = late > TICK_MS * 1000000u ? late - TICK_MS * 1000000u : 0;
    if (p.last_tick_ns != 0 && late > p.worst_ns)
        p.worst_ns = late;
    p.ticks++;
    p.late += p.last_tick_ns != 0 && late > LATE_NS;
    p.last_tick_ns = now;
}

static void *sleep_alone(void *arg) {
    uint64_t last = clock_mono_ns(), now;
    (void)arg;

    for (;;) {
        (void)poll(NULL, 0, TICK_MS);
        now = clock_mono_ns();
        if (now - last > TICK_MS * 1000000u + LATE_NS)
            p.alone++;
        last = now;
    }
    return NULL;
}

static void say(const char *text) {
    (void)puts(text);
    (void)fflush(stdout);
}

static void on_kept(void *arg, int rc) {
    (void)printf("kept %s %d\n", (char *)arg, rc);
    (void)fflush(stdout);
    mem_free(arg);
}

static void on_http_closed(void *arg) {
    (void)arg;
    (void)printf("closed %llu\n", (unsigned long long)(clock_mono_ms() - p.closing_ms));
    (void)fflush(stdout);
    uv_close((uv_handle_t *)&p.tick, NULL);
    uv_close((uv_handle_t *)&p.in, NULL);
}

static void on_notify_closed(void *arg) {
    (void)arg;
    http_close(p.http, on_http_closed, NULL);
}

static void send_one(char *id) {
    char *text = strchr(id, ' '), *copy;
    int rc;

    if (text == NULL) {
        say("sent ? -22");
        return;
    }
    *text++ = '\0';
    copy = mem_strdup(id);
    rc = notify_send(p.notify, id, text, strlen(text), on_kept, copy);
    (void)printf("sent %s %d\n", id, rc);
    (void)fflush(stdout);
    if (rc != 0)
        mem_free(copy);
}

static void put_counters(void) {
    struct buf b;

    buf_init(&b, 65536);
    buf_putc(&b, '{');
    for (unsigned i = 0; i < COUNTER_COUNT; i++)
        buf_printf(&b, "%s\"%s\":%llu", i > 0 ? "," : "", counter_name(i),
                   (unsigned long long)counter_get(i));
    buf_putc(&b, '}');
    say(b.data);
    buf_clear(&b);
}

static void put_status(void) {
    struct buf b;

    buf_init(&b, 65536);
    (void)notify_write_status(p.notify, &b);
    say(b.data);
    buf_clear(&b);
}

static void order(char *line) {
    if (strncmp(line, "send ", 5) == 0) {
        send_one(line + 5);
    } else if (strcmp(line, "status") == 0) {
        put_status();
    } else if (strcmp(line, "counters") == 0) {
        put_counters();
    } else if (strcmp(line, "lag") == 0) {
        (void)printf("lag %.3f %llu %llu %lu\n", (double)p.worst_ns / 1e6,
                     (unsigned long long)p.ticks, (unsigned long long)p.late, p.alone);
        (void)fflush(stdout);
        p.worst_ns = p.ticks = p.late = 0;
        p.alone = 0;
    } else if (strcmp(line, "end") == 0) {
        p.closing_ms = clock_mono_ms();
        notify_close(p.notify, on_notify_closed, NULL);
    }
}

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *ret) {
    (void)h;
    (void)size;
    *ret = uv_buf_init(p.line + p.len, (unsigned)(LINE_BYTES - 1 - p.len));
}

static void on_input(uv_stream_t *s, ssize_t n, const uv_buf_t *buf) {
    char *end, *start = p.line;
    (void)buf;

    if (n < 0) {
        (void)uv_read_stop(s);
        if (p.closing_ms == 0)
            _exit(0);
        return;
    }
    p.len += (size_t)n;
    p.line[p.len] = '\0';
    while ((end = strchr(start, '\n')) != NULL) {
        *end = '\0';
        order(start);
        start = end + 1;
    }
    p.len -= (size_t)(start - p.line);
    memmove(p.line, start, p.len + 1);
}

int main(int argc, char **argv) {
    struct http_tls tls = {.ca_file = argc > 3 ? argv[3] : NULL,
                           .cert_file = argc > 5 ? argv[4] : NULL,
                           .key_file = argc > 5 ? argv[5] : NULL};
    struct notify_env env = {
        .loop = &p.loop, .app = "shop", .instance = "one", .token = "secret-token", .tls = &tls};
    pthread_t alone;
    struct buf why;

    if (argc < 3)
        return 64;
    buf_init(&why, 1000);
    env.data_dir = argv[1];
    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "notifier");
    if (uv_loop_init(&p.loop) != 0 || http_new(&p.http, &p.loop, &tls, &why) != 0)
        return 1;
    env.http = p.http;
    if (notify_new(&p.notify, argv[2], &env, &why) != 0) {
        (void)fprintf(stderr, "%s\n", why.data);
        return 1;
    }
    (void)uv_pipe_init(&p.loop, &p.in, 0);
    (void)uv_pipe_open(&p.in, 0);
    (void)uv_read_start((uv_stream_t *)&p.in, on_alloc, on_input);
    (void)uv_timer_init(&p.loop, &p.tick);
    (void)uv_timer_start(&p.tick, on_tick, TICK_MS, TICK_MS);
    (void)notify_start(p.notify);
    if (pthread_create(&alone, NULL, sleep_alone, NULL) != 0)
        return 1;
    say("ready");
    (void)uv_run(&p.loop, UV_RUN_DEFAULT);
    buf_clear(&why);
    return uv_loop_close(&p.loop) == 0 && mem_live() == 0 ? 0 : 2;
}
