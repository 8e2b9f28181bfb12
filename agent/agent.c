/* Happy path: configuration → runtime directory and its lock → collectors, uploader, workers' socket, status socket → the loop,
 * with one timer that turns the watcher. On SIGTERM, SIGINT or the end of init: flush, then close everything and let the loop
 * run out.
 * It fails by: a mistake in the environment (exit 78, the line is kept for `status`), a directory that is not ours (77), another
 * helper (69). After the loop has begun nothing ends it but a signal. */
#include "agent/agent.h"

#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sysexits.h>

#include "agent/appname.h"
#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/captures.h"
#include "agent/config.h"
#include "agent/helper_stats.h"
#include "agent/init/prepare.h"
#include "agent/initfeed.h"
#include "agent/metrics_text.h"
#include "agent/pipeline.h"
#include "agent/registrar.h"
#include "agent/rundir.h"
#include "agent/status.h"
#include "agent/warnings.h"
#include "agent/watcher.h"
#include "ipc/http.h"
#include "ipc/server.h"
#include "uploader/http.h"
#include "uploader/uploader.h"

#define WHY_BYTES      1024
#define HOUSEKEEP_MS   2000
#define STOP_MARGIN_MS 1000 /* what init keeps for itself of the stop timeout */
#define CLOSE_LIMIT_S  2
#define STOP_LEAST_MS  500

struct agent {
    struct config config;
    char *app;
    char boot[33];
    struct rundir rundir;
    uv_loop_t loop;
    struct workers *workers;
    struct pipeline pipeline;
    struct uploader *uploader;
    struct captures *captures;
    struct http *outward;        /* connections of sinks, store, webhooks; NULL: all are local */
    struct registrar *registrar; /* NULL: there is no registry */
    struct ipc_server *ipc;
    struct http_server *http;
    struct status status;
    struct helper_stats helper;
    struct warnings warnings;
    struct initfeed feed;
    uv_timer_t tick;
    uv_signal_t term, intr;
    uint64_t housekept_ms;
    uint64_t deadline_ms; /* uv_now clock: when init will have ended us; 0 not known */
    bool stopping;
};

/* --- stopping --- */

static void on_registrar_closed(void *arg) {
    (void)arg;
}

static void on_outward_closed(void *arg) {
    (void)arg;
}

static void on_uploader_closed(void *arg) {
    struct agent *a = arg;

    registrar_close(a->registrar, on_registrar_closed, NULL);
    if (a->outward != NULL)
        http_close(a->outward, on_outward_closed, NULL);
}

static void on_server_closed(void *arg) {
    struct agent *a = arg;

    uploader_close(a->uploader, on_uploader_closed, a);
}

static void on_http_closed(void *arg) {
    (void)arg;
}

static void on_captures_closed(void *arg) {
    struct agent *a = arg;

    a->captures = NULL;
    a->status.captures = NULL;
    http_server_close(a->http, on_http_closed, NULL);
    ipc_server_close(a->ipc, on_server_closed, a);
}

static void on_flushed(void *arg) {
    struct agent *a = arg;

    /* A write that the kernel never ends (a dead NFS server) does not keep us. */
    (void)alarm(CLOSE_LIMIT_S);
    uv_close((uv_handle_t *)&a->tick, NULL);
    uv_close((uv_handle_t *)&a->term, NULL);
    uv_close((uv_handle_t *)&a->intr, NULL);
    helper_stats_close(&a->helper);
    initfeed_close(&a->feed);
    captures_close(a->captures, on_captures_closed, a); /* it needs its workers for that */
}

static void stop(struct agent *a, const char *why) {
    uint64_t budget = a->config.stop_timeout_ms;

    if (a->stopping)
        return;
    a->stopping = true;
    log_debug("%s: stopping", why);
    budget = budget > STOP_MARGIN_MS + STOP_LEAST_MS ? budget - STOP_MARGIN_MS : STOP_LEAST_MS;
    if (a->deadline_ms == 0)
        a->deadline_ms = uv_now(&a->loop) + budget;
    (void)uv_timer_stop(&a->tick);
    watcher_tick(&a->pipeline, clock_mono_ms()); /* the worker whose end ends the container */
    registrar_leave(a->registrar);
    captures_stop(a->captures);
    uploader_stop(a->uploader, a->deadline_ms, on_flushed, a);
}

static void on_signal(uv_signal_t *handle, int signum) {
    stop(handle->data, signum == SIGTERM ? "SIGTERM" : "SIGINT");
}

static void on_init_exit(void *arg, pid_t pid, uint64_t start_ticks, int code, int signum) {
    struct agent *a = arg;

    watcher_exit_told(&a->pipeline, pid, start_ticks, code, signum, true);
}

static void on_init_ended(void *arg) {
    stop(arg, "init has ended");
}

static void on_init_stopping(void *arg, uint64_t left_ms) {
    struct agent *a = arg;

    a->deadline_ms =
        uv_now(&a->loop) + (left_ms > STOP_LEAST_MS ? left_ms - STOP_LEAST_MS / 2 : STOP_LEAST_MS);
    registrar_leave(
        a->registrar); /* the application has begun to end: nobody should come any more */
}

static const struct initfeed_callbacks feed_callbacks = {
    .exited = on_init_exit,
    .stopping = on_init_stopping,
    .ended = on_init_ended,
};

/* --- the turn --- */

/* Somebody cleans /tmp or /run: what workers and users look for is made again. */
static void housekeep(struct agent *a) {
    int made = 0, files = 0;
    char why[WHY_BYTES];

    made += ipc_server_check(a->ipc) == 1;
    made += http_server_check(a->http) == 1;
    if (prepare_files(a->rundir.fd, a->config.runtime_dir, &files, why, sizeof(why)) == 0)
        made += files;
    if (made == 0)
        return;
    counter_add(COUNTER_SOCKETS_MADE_AGAIN, (uint64_t)made);
    log_warn("files in %s were gone and were made again", a->config.runtime_dir);
}

static void on_tick(uv_timer_t *timer) {
    struct agent *a = timer->data;
    uint64_t now = clock_mono_ms();

    watcher_tick(&a->pipeline, now);
    registrar_tick(a->registrar, a->workers, now);
    captures_tick(a->captures, now);
    if (now - a->housekept_ms < HOUSEKEEP_MS)
        return;
    a->housekept_ms = now;
    housekeep(a);
}

/* --- starting --- */

static int make_boot_id(char out[33]) {
    unsigned char raw[16];

    if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
        return -EIO;
    for (size_t i = 0; i < sizeof(raw); i++)
        (void)snprintf(out + 2 * i, 3, "%02x", raw[i]);
    return 0;
}

/* The helper takes as many descriptors as it may have; the soft limit is for programs that use select(2). */
static void raise_descriptors(void) {
    struct rlimit lim;

    if (getrlimit(RLIMIT_NOFILE, &lim) != 0 || lim.rlim_cur >= lim.rlim_max)
        return;
    lim.rlim_cur = lim.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &lim); /* the old limit does as well */
}

static void fill_status(struct agent *a, char *const *env) {
    a->status = (struct status){
        .config = &a->config,
        .env = env,
        .app = a->app,
        .boot = a->boot,
        .started_mono_ms = clock_mono_ms(),
        .workers = a->workers,
        .uploader = a->uploader,
        .captures = a->captures,
        .registrar = a->registrar,
        .container_schema = a->pipeline.container_schema,
        .container_values = a->pipeline.container.values,
        .container_layout = cgroup_layout_name(
            a->pipeline.cgroup != NULL ? cgroup_layout(a->pipeline.cgroup) : CGROUP_NONE),
        .helper = &a->helper,
        .warnings = &a->warnings,
        .metrics_text = a->status.metrics_text,
    };
}

static int start_signal(struct agent *a, uv_signal_t *handle, int signum) {
    int rc = uv_signal_init(&a->loop, handle);

    handle->data = a;
    return rc == 0 ? uv_signal_start(handle, on_signal, signum) : rc;
}

static int start_timer(struct agent *a) {
    uint64_t every = watcher_every_ms(&a->config);
    int rc = uv_timer_init(&a->loop, &a->tick);

    a->tick.data = a;
    return rc == 0 ? uv_timer_start(&a->tick, on_tick, 0, every) : rc;
}

static int start_outward(struct agent *a, struct buf *why) {
    struct http_tls tls = {.ca_file = a->config.ca_file,
                           .cert_file = a->config.cert_file,
                           .key_file = a->config.key_file};

    return sink_list_is_remote(a->config.sink) || captures_need_http(&a->config)
               ? http_new(&a->outward, &a->loop, &tls, why)
               : 0;
}

static int start_uploader(struct agent *a, struct buf *why) {
    struct uploader_options options = {
        .app = a->app,
        .instance = a->config.instance,
        .boot = a->boot,
        .sinks = a->config.sink,
        .data_dir = a->config.data_dir,
        .flush_interval_ms = a->config.flush_interval_ms,
        .batch_max_bytes = a->config.batch_max_bytes,
        .spool_max_bytes = a->config.spool_max_bytes,
        .spool_sync_ms = a->config.spool_sync_ms,
        .hubs = registrar_hubs(a->registrar),
        .token = a->config.sink_token,
        .command = captures_on_hub_command,
        .command_arg = &a->captures,
    };
    int rc = start_outward(a, why);

    options.http = a->outward;
    if (rc == 0)
        rc = uploader_new(&a->uploader, &a->loop, &options, pipeline_on_kept, &a->pipeline, why);
    if (rc == 0)
        rc = uploader_start(a->uploader);
    if (rc == 0)
        pipeline_set_uploader(&a->pipeline, a->uploader);
    return rc;
}

static int make_captures(struct agent *a, struct buf *why) {
    struct captures_env env = {.loop = &a->loop,
                               .config = &a->config,
                               .app = a->app,
                               .pipeline = &a->pipeline,
                               .runtime_fd = a->rundir.fd,
                               .http = a->outward,
                               .pages = status_handler,
                               .pages_arg = &a->status};

    return captures_new(&a->captures, &env, why);
}

static int start_servers(struct agent *a) {
    int rc = ipc_server_new(&a->ipc, &a->loop, &pipeline_callbacks, &a->pipeline);

    if (rc == 0)
        rc = ipc_server_listen(a->ipc, a->rundir.fd, a->config.runtime_dir, "workers.sock");
    if (rc == 0)
        rc = http_server_new(&a->http, &a->loop, status_handler, &a->status);
    if (rc == 0)
        rc = http_server_listen_unix(a->http, a->rundir.fd, a->config.runtime_dir, "status.sock");
    return rc;
}

/* A descriptor from init, if init is there. */
static void start_feed(struct agent *a) {
    const char *s = getenv("PILLION_INIT_FD");
    uint64_t fd;

    if (s == NULL)
        return;
    if (text_u64(s, &fd) != 0 || fd > INT32_MAX ||
        initfeed_start(&a->feed, &a->loop, (int)fd, &feed_callbacks, a) != 0)
        log_warn(
            "PILLION_INIT_FD=%s is not a descriptor of init: exit statuses come from other sources",
            s);
}

/* Everything that can fail before the loop runs; the process ends if it does, so that nothing is taken down by hand. */
static int start(struct agent *a, char *const *env, struct buf *why) {
    int rc = uv_loop_init(&a->loop);

    if (rc == 0)
        rc = helper_stats_start(&a->helper, &a->loop);
    if (rc == 0)
        rc = make_boot_id(a->boot);
    if (rc == 0)
        rc = workers_new(&a->workers);
    if (rc == 0)
        rc = pipeline_init(&a->pipeline, &a->config, a->workers);
    if (rc == 0)
        rc = registrar_new(&a->registrar, &a->loop, &a->config, env, a->app, why);
    if (rc == 0)
        rc = start_uploader(a, why);
    if (rc == 0)
        rc = make_captures(a, why);
    if (rc == 0)
        rc = metrics_text_new(&a->status.metrics_text);
    if (rc != 0)
        return rc;
    fill_status(a, env);
    rc = start_servers(a);
    if (rc == 0)
        rc = captures_start(a->captures);
    if (rc == 0)
        rc = start_signal(a, &a->term, SIGTERM);
    if (rc == 0)
        rc = start_signal(a, &a->intr, SIGINT);
    if (rc == 0)
        rc = start_timer(a);
    if (rc == 0) {
        registrar_tick(a->registrar, a->workers, clock_mono_ms());
        rc = registrar_start(a->registrar);
    }
    if (rc == 0)
        start_feed(a);
    return rc;
}

static void clear(struct agent *a) {
    pipeline_clear(&a->pipeline);
    workers_free(a->workers);
    metrics_text_free(a->status.metrics_text);
    warnings_clear(&a->warnings);
    rundir_close(&a->rundir);
    mem_free(a->app);
    config_clear(&a->config);
    if (uv_loop_close(&a->loop) != 0)
        log_warn("the event loop was not empty at the end");
}

static int run(struct agent *a, char *const *env) {
    struct buf why;
    int rc;

    buf_init(&why, WHY_BYTES);
    rc = start(a, env, &why);
    if (rc != 0) {
        log_error("cannot start: %s", why.len > 0 ? why.data : strerror(-rc));
        rundir_note_error(&a->config, why.len > 0 ? why.data : strerror(-rc));
        buf_clear(&why);
        return rc == -EINVAL ? EX_CONFIG : rc == -EBUSY ? EX_UNAVAILABLE : EX_OSERR;
    }
    rundir_note_error(&a->config, NULL);
    log_info("pillion " PILLION_VERSION " rides beside %s; see `pillion status` (%s)", a->app,
             a->config.runtime_dir);
    (void)uv_run(&a->loop, UV_RUN_DEFAULT);
    clear(a);
    return EX_OK;
}

static int open_directories(struct agent *a) {
    char why[WHY_BYTES];
    int rc = rundir_open(&a->rundir, &a->config, why, sizeof(why));

    if (rc == 0) {
        int fd = fs_private_dir(a->config.data_dir, 0700, why, sizeof(why));

        if (fd >= 0)
            close(fd);
        else
            rc = fd;
    }
    if (rc == 0 && prepare_files(a->rundir.fd, a->config.runtime_dir, NULL, why, sizeof(why)) != 0)
        log_warn("%s: workers that start now are not seen", why);
    if (rc == 0)
        return EX_OK;
    log_error("%s", why);
    if (rc == -EBUSY)
        return EX_UNAVAILABLE;
    rundir_note_error(&a->config, why);
    return rc == -ENOMEM ? EX_OSERR : EX_NOPERM;
}

static int read_config(struct agent *a, char *const *env) {
    struct buf why;
    int rc;

    buf_init(&why, WHY_BYTES);
    rc = config_load(&a->config, env, &why);
    log_setup(a->config.log_level, a->config.log_format, "pillion agent");
    if (rc != 0) {
        log_error("%s", why.len > 0 ? why.data : strerror(-rc));
        rundir_note_error(&a->config, why.len > 0 ? why.data : strerror(-rc));
    }
    buf_clear(&why);
    return rc == 0 ? EX_OK : rc == -EINVAL ? EX_CONFIG : EX_OSERR;
}

static int usage(const char *arg) {
    bool help = strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;

    (void)fprintf(help ? stdout : stderr,
                  "%susage: pillion agent\n\nThe helper alone; it is configured by environment "
                  "variables (pillion --help lists them).\n",
                  help ? "" : "pillion agent: takes no arguments\n");
    return help ? EX_OK : EX_USAGE;
}

int agent_main(int argc, char **argv, char *const *env) {
    static struct agent a; /* large, and there is one */
    int rc;

    if (argc > 1)
        return usage(argv[1]);
    a.rundir = (struct rundir){.fd = -1, .lockfd = -1};
    json_set_alloc_funcs(mem_alloc, mem_free);
    if (uv_replace_allocator(mem_alloc, mem_realloc, mem_calloc, mem_free) != 0)
        return EX_OSERR;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a limit on file size is an error of write(2), not our end */
    (void)setenv("UV_THREADPOOL_SIZE", "2",
                 0); /* one writes, one compresses; libuv would start four */
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0,
                0); /* not on Linux before 3.5: then there is nothing to take away */
    raise_descriptors();
    rc = read_config(&a, env);
    if (rc == EX_OK && warnings_init(&a.warnings) != 0)
        rc = EX_OSERR;
    if (rc == EX_OK)
        rc = open_directories(&a);
    if (rc == EX_OK) {
        a.app = appname_find(a.config.app);
        rc = a.app != NULL ? run(&a, env) : EX_OSERR;
    }
    return rc;
}
