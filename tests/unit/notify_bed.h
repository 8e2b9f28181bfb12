/* notify_bed.h - notifications in a directory of their own, on a loop that the test turns until something is so. */
#ifndef PILLION_TEST_NOTIFY_BED_H
#define PILLION_TEST_NOTIFY_BED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "uploader/notify.h"

#define BED_PATIENCE_MS 20000

static struct {
    uv_loop_t loop;
    uv_timer_t tick;
    struct http *http;
    struct notify *notify;
    const char *token;
    char dir[64];
    int kept, kept_rc;
    bool closed;
    uint64_t tick_ns, late, ticks; /* a timer of 2 ms: how often it came more than 50 ms late */
} bed;

static inline void bed_kept(void *arg, int rc) {
    assert_ptr_equal(arg, &bed);
    bed.kept++;
    bed.kept_rc = rc;
}

static inline void bed_closed(void *arg) {
    (void)arg;
    bed.closed = true;
}

static inline void bed_tick(uv_timer_t *t) {
    uint64_t now = clock_mono_ns();
    (void)t;

    bed.ticks++;
    bed.late += bed.tick_ns != 0 && now - bed.tick_ns > 52000000;
    bed.tick_ns = now;
}

#define BED_UNTIL(what)                                                                            \
    do {                                                                                           \
        uint64_t bed_end = clock_mono_ms() + BED_PATIENCE_MS;                                      \
        while (!(what) && clock_mono_ms() < bed_end)                                               \
            (void)uv_run(&bed.loop, UV_RUN_ONCE);                                                  \
        assert_true(what);                                                                         \
    } while (0)

static inline void bed_make_dir(void) {
    (void)snprintf(bed.dir, sizeof(bed.dir), "/tmp/notify-test-XXXXXX");
    assert_non_null(mkdtemp(bed.dir));
}

static inline int bed_remove(const char *dir) {
    char path[PATH_MAX];
    struct dirent *e;
    DIR *d = opendir(dir);

    while (d != NULL && (e = readdir(d)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) < (int)sizeof(path) &&
            unlink(path) != 0)
            (void)bed_remove(path);
    if (d != NULL)
        closedir(d);
    return rmdir(dir);
}

/* Names of files in <dir>/notify; the last one in `name` when that is not NULL. */
static inline int bed_files(char *name) {
    char path[PATH_MAX];
    struct dirent *e;
    int n = 0;
    DIR *d;

    (void)snprintf(path, sizeof(path), "%s/notify", bed.dir);
    d = opendir(path);
    while (d != NULL && (e = readdir(d)) != NULL)
        if (e->d_name[0] != '.' || strlen(e->d_name) > 2) {
            n++;
            if (name != NULL)
                (void)snprintf(name, NAME_MAX + 1, "%s", e->d_name);
        }
    if (d != NULL)
        closedir(d);
    return n;
}

static inline int bed_try(const char *list, struct buf *why) {
    struct notify_env env = {.loop = &bed.loop,
                             .http = bed.http,
                             .data_dir = bed.dir,
                             .app = "shop",
                             .instance = "one",
                             .token = bed.token};

    return notify_new(&bed.notify, list, &env, why);
}

static inline void bed_open(const char *list) {
    struct buf why;

    buf_init(&why, 4096);
    (void)signal(SIGPIPE, SIG_IGN);
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT, "test");
    json_set_alloc_funcs(mem_alloc, mem_free);
    bed.kept = bed.kept_rc = 0;
    bed.closed = false;
    bed.tick_ns = bed.late = bed.ticks = 0;
    assert_int_equal(uv_loop_init(&bed.loop), 0);
    assert_int_equal(uv_timer_init(&bed.loop, &bed.tick), 0);
    assert_int_equal(uv_timer_start(&bed.tick, bed_tick, 2, 2), 0);
    assert_int_equal(http_new(&bed.http, &bed.loop, NULL, &why), 0);
    if (bed_try(list, &why) != 0)
        fail_msg("%s", why.data);
    (void)notify_start(bed.notify);
    buf_clear(&why);
}

static inline void bed_send(const char *id, const char *text) {
    assert_int_equal(notify_send(bed.notify, id, text, strlen(text), bed_kept, &bed), 0);
}

/* Returns how long the closing of the notifications took. */
static inline uint64_t bed_close(void) {
    uint64_t start = clock_mono_ms(), took;

    notify_close(bed.notify, bed_closed, NULL);
    BED_UNTIL(bed.closed);
    took = clock_mono_ms() - start;
    bed.closed = false;
    http_close(bed.http, bed_closed, NULL);
    BED_UNTIL(bed.closed);
    uv_close((uv_handle_t *)&bed.tick, NULL);
    (void)uv_run(&bed.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&bed.loop), 0);
    assert_int_equal(mem_live(), 0);
    return took;
}

/* A member of the status of target i, a string in a static buffer; numbers as text; "null". */
static inline const char *bed_status(size_t i, const char *member) {
    static char out[512];
    struct buf b;
    json_t *o, *v;

    buf_init(&b, 65536);
    assert_int_equal(notify_write_status(bed.notify, &b), 0);
    o = json_loadb(b.data, b.len, 0, NULL);
    assert_non_null(o);
    v = json_object_get(json_array_get(o, i), member);
    if (json_is_integer(v))
        (void)snprintf(out, sizeof(out), "%lld", (long long)json_integer_value(v));
    else
        (void)snprintf(out, sizeof(out), "%s", json_is_string(v) ? json_string_value(v) : "null");
    json_decref(o);
    buf_clear(&b);
    return out;
}

#define BED_STATE(i, state) (strcmp(bed_status(i, "state"), state) == 0)

#endif
