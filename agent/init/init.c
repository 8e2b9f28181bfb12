/* init.c - the loop of `pillion run`; init.h says what it does.
 *
 * Happy path: begin() → spawn_app() → loop(): wait for a signal; SIGCHLD: reap(); others: forward() → the main process ends →
 * stop_main_gone() → stop_step() until STOP_DONE → the application's exit status.
 *
 * Ways to fail: the runtime directory is refused, the configuration is wrong, the helper cannot be started: said once, and the
 * application runs all the same. The application cannot be executed: 127 or 126, and no helper is started for it. */
#include "agent/init/init.h"

#include <errno.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "agent/base/clock.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/config.h"
#include "agent/init/children.h"
#include "agent/init/exit_record.h"
#include "agent/init/helper.h"
#include "agent/init/node_options.h"
#include "agent/init/options.h"
#include "agent/init/prepare.h"
#include "agent/init/quota.h"
#include "agent/init/signals.h"
#include "agent/init/spawn.h"
#include "agent/init/stop.h"
#include "agent/init/terminal.h"
#include "agent/init/workers_command.h"

#define WHY_BYTES 512
/* A master ends its workers so long before it would be killed itself. */
#define MASTER_MARGIN_MS 500

struct init {
    struct options options;
    struct config config;
    struct signals signals;
    struct helper helper;
    struct stop stop;
    bool nested; /* the helper is an outer run's */
    bool wants_helper;
    bool prepared;      /* the runtime directory and its files are in place */
    pid_t app;          /* 0: reaped */
    pid_t app_id;       /* its pid, for the record */
    int code, sig;      /* how it ended */
    bool suspended;     /* somebody asked us by signal to stop the application for a while */
    bool group_stopped; /* the application's whole group waits for SIGCONT */
    int last_signal;
    int64_t oom_kills; /* when we began; -1: not known */
};

static int exit_status(const struct init *in) {
    return in->sig != 0 ? 128 + in->sig : in->code;
}

/* --- before ------------------------------------------------------------------------------------------------------------------- */

/* Files first, so that NODE_OPTIONS never names one that is not there. */
static void prepare(struct init *in) {
    const char *dir = in->config.runtime_dir;
    char why[WHY_BYTES];
    int fd = fs_private_dir(dir, prepare_dir_mode(), why, sizeof(why));

    if (fd >= 0) {
        in->prepared = prepare_files(fd, dir, NULL, why, sizeof(why)) == 0;
        close(fd);
    }
    if (!in->prepared)
        log_warn("%s; the application starts without the helper", why);
}

/* A mistake in the configuration is the helper's to say; it writes it down for `pillion status` as well. */
static int read_config(struct init *in, char *const *env, bool *ret_sound) {
    struct buf why;
    int rc;

    buf_init(&why, WHY_BYTES);
    rc = config_load(&in->config, env, &why);
    buf_clear(&why);
    if (rc == -ENOMEM)
        return rc;
    *ret_sound = rc == 0;
    log_setup(in->config.log_level, in->config.log_format, "pillion run");
    return 0;
}

static int begin(struct init *in, char *const *env) {
    bool sound = false;
    int rc = read_config(in, env, &sound);

    if (rc != 0)
        return rc;
    stop_init(&in->stop, in->config.stop_timeout_ms);
    if (getpid() != 1 && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        log_warn("cannot become a subreaper (%s): orphans will not be waited for", strerror(errno));
    in->nested = sound && prepare_is_nested(env, in->config.runtime_dir);
    if (in->nested)
        log_debug("inside another run with the same runtime directory: its helper is ours, too");
    if (sound)
        prepare(in);
    in->wants_helper = !in->nested && (in->prepared || !sound);
    return 0;
}

/* After the application, so that it inherits nothing of it. */
static void start_helper(struct init *in, char *const *env) {
    int rc;

    spawn_close_inherited();
    if (!in->wants_helper)
        return;
    rc = helper_init(&in->helper, env);
    if (rc != 0) {
        log_warn("no helper: %s", strerror(-rc));
        return;
    }
    helper_want(&in->helper, clock_mono_ms());
    helper_due(&in->helper, clock_mono_ms());
}

/* --- the application -------------------------------------------------------------------------------------------------------- */

static int start_command(struct init *in, char *const *argv, char *const *env) {
    bool exec_failed = false;
    int rc = spawn_app(&in->app, &exec_failed, argv, env, &in->signals);

    if (rc == 0) {
        in->app_id = in->app;
        return 0;
    }
    in->app = 0;
    log_error("cannot start %s: %s", argv[0], strerror(-rc));
    if (!exec_failed)
        return EX_OSERR;
    return rc == -ENOENT ? 127 : 126;
}

static int start_master(struct init *in, char *const *env) {
    uint64_t stop_ms = in->config.stop_timeout_ms;
    unsigned workers = in->options.workers;
    char **argv, *text;
    int rc;

    if (workers == OPTIONS_WORKERS_AUTO)
        workers = quota_cpus("", 0);
    stop_ms = stop_ms > 4 * MASTER_MARGIN_MS ? stop_ms - 3 * MASTER_MARGIN_MS : stop_ms / 4;
    rc = workers_command(&argv, &text, in->prepared ? in->config.runtime_dir : NULL, workers,
                         stop_ms, in->options.command);
    if (rc != 0) {
        log_error("cannot start the master: %s", strerror(-rc));
        return EX_OSERR;
    }
    rc = start_command(in, argv, env);
    mem_free(argv);
    mem_free(text);
    return rc;
}

/* The directory of the preload, NULL: without it. */
static const char *preload_dir(const struct init *in, char *const *env) {
    const char *dir = in->config.runtime_dir;

    if (!in->prepared)
        return NULL;
    if (!node_options_forbid((const char *const *)in->options.command,
                             prepare_getenv(env, "NODE_OPTIONS"), dir))
        return dir;
    log_warn("the permission model of Node.js 20 would not let it start with our preload: it is "
             "not sampled; with "
             "--allow-fs-read=%s/* it is",
             dir);
    return NULL;
}

/* 0, or the exit status to end with. */
static int start_app(struct init *in, char *const *env) {
    struct prepared_env p;
    int rc = prepare_env(&p, env, preload_dir(in, env), !in->nested);

    if (rc != 0) {
        log_error("cannot start the application: %s", strerror(-rc));
        return EX_OSERR;
    }
    rc = in->options.has_workers ? start_master(in, p.env)
                                 : start_command(in, in->options.command, p.env);
    prepare_env_clear(&p);
    return rc;
}

/* --- signals ------------------------------------------------------------------------------------------------------------------ */

static void forward(struct init *in, int sig) {
    if (in->app == 0)
        return;
    in->last_signal = sig;
    if (in->options.group && sig == SIGTERM)
        in->stop.group = in->app;
    (void)kill(in->options.group ? -in->app : in->app, sig);
}

/* We go on (`fg`, `bg`, or a plain SIGCONT). The whole group does when it was stopped as a whole, by the terminal. */
static void go_on(struct init *in, bool group) {
    in->suspended = false;
    in->group_stopped = false;
    if (in->app == 0)
        return;
    if (terminal_belongs_to(getpgrp()))
        terminal_give(in->app);
    (void)kill(group ? -in->app : in->app, SIGCONT);
}

static void take_signal(struct init *in, const siginfo_t *si) {
    uint64_t now = clock_mono_ms();
    int sig = si->si_signo;

    if (!signals_can_forward(sig) || signals_own(si))
        return;
    log_debug("signal %d (%s) from pid %ld", sig, strsignal(sig),
              si->si_code == SI_KERNEL ? 0 : (long)si->si_pid);
    if (sig == SIGCONT) {
        go_on(in, in->group_stopped || in->options.group);
        return;
    }
    if (sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU)
        in->suspended = true;
    forward(in, sig);
    if (sig == SIGTERM && in->stop.phase == STOP_NO) {
        stop_ask(&in->stop, now);
        exit_feed_stop(&in->helper.feed, in->stop.timeout_ms);
    } else if (sig == SIGINT || sig == SIGQUIT) {
        stop_hint(&in->stop, now);
    }
}

/* The application stands still. As without us: so do we and our group, if there is somebody who can continue it (a shell); if
 * not, the kernel would not have let it stop either. Somebody's SIGSTOP or a debugger's is theirs to undo. */
static void app_stopped(struct init *in, int sig) {
    bool foreground = terminal_belongs_to(in->app);

    if (in->suspended) { /* asked through us, by a signal: we are part of what was to stop */
        if (signals_stop_self(sig, false))
            in->group_stopped = in->options.group;
        return;
    }
    if (sig != SIGTTIN && sig != SIGTTOU && (sig != SIGTSTP || !foreground))
        return;
    if (terminal_belongs_to(getpgrp())) { /* a shell's `fg` of a running job tells nobody */
        go_on(in, true);
        return;
    }
    if (foreground)
        terminal_give(getpgrp());
    in->group_stopped = signals_stop_self(sig, true);
    if (!in->group_stopped && sig == SIGTSTP)
        go_on(in, true);
}

/* --- children ----------------------------------------------------------------------------------------------------------------- */

static void app_ended(struct init *in, int code, int sig) {
    bool asked = in->stop.phase != STOP_NO;

    if (terminal_belongs_to(in->app))
        terminal_give(getpgrp());
    in->app = 0;
    in->code = code;
    in->sig = sig;
    stop_main_gone(&in->stop, clock_mono_ms());
    helper_no_more(&in->helper);
    if (!asked)
        exit_feed_stop(&in->helper.feed, in->stop.timeout_ms);
}

static void child_ended(struct init *in, pid_t pid, uint64_t start_ticks, int code, int sig) {
    if (pid == in->helper.pid) {
        helper_exited(&in->helper, code, sig, in->app == 0, clock_mono_ms());
        return;
    }
    exit_feed_exit(&in->helper.feed, pid, start_ticks, code, sig);
    pids_remove(&in->stop.told, pid);
    if (pid == in->app)
        app_ended(in, code, sig);
    else
        log_debug("orphan %ld ended: code %d, signal %d", (long)pid, code, sig);
}

/* Its start time is only there while it is a zombie: look first, reap then. */
static void reap(struct init *in) {
    struct process_stat st;
    siginfo_t si;

    for (;;) {
        bool exited;

        si.si_pid = 0;
        if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) != 0 || si.si_pid == 0)
            break;
        st.start_ticks = 0;
        if (in->helper.feed.writefd >= 0 && !in->helper.feed.full)
            (void)process_read_stat(si.si_pid, &st);
        exited = si.si_code == CLD_EXITED;
        while (waitid(P_PID, (id_t)si.si_pid, &(siginfo_t){0}, WEXITED) != 0 && errno == EINTR)
            ;
        child_ended(in, si.si_pid, st.start_ticks, exited ? si.si_status : 0,
                    exited ? 0 : si.si_status);
    }
    si.si_pid = 0;
    if (in->app != 0 && waitid(P_PID, (id_t)in->app, &si, WSTOPPED | WNOHANG) == 0 &&
        si.si_pid != 0)
        app_stopped(in, si.si_status);
}

/* --- the loop --------------------------------------------------------------------------------------------------------------- */

static uint64_t until(uint64_t when, uint64_t now) {
    return when == UINT64_MAX ? SIGNALS_FOREVER : when > now ? when - now : 0;
}

static void loop(struct init *in) {
    siginfo_t si;

    while (in->stop.phase != STOP_DONE) {
        uint64_t now = clock_mono_ms(), next = stop_next(&in->stop);

        if (in->helper.start_at < next)
            next = in->helper.start_at;
        if (signals_wait(&si, until(next, now)) > 0 && si.si_signo != SIGCHLD)
            take_signal(in, &si);
        reap(in);
        now = clock_mono_ms();
        helper_due(&in->helper, now);
        stop_step(&in->stop, in->helper.pid, now);
    }
}

static void finish(struct init *in) {
    struct exit_record r = {.wall_ms = clock_wall_ms(),
                            .app_pid = in->app_id,
                            .code = in->code,
                            .sig = in->sig,
                            .oom_kills = -1,
                            .helper_restarts = in->helper.restarts,
                            .last_signal = in->last_signal};
    int64_t oom_kills = exit_record_oom_kills("");
    struct rusage usage;

    if (getrusage(RUSAGE_CHILDREN, &usage) == 0)
        r.peak_rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
    if (oom_kills >= 0 && in->oom_kills >= 0)
        r.oom_kills = oom_kills - in->oom_kills;
    if (in->nested)
        return; /* the outer one has the directory, and will say it */
    exit_record_say(&r);
    if (in->prepared)
        exit_record_write(&r, in->config.data_dir);
}

static int run(struct init *in, char *const *env) {
    int rc = begin(in, env);

    if (rc != 0) {
        log_error("cannot start: %s", strerror(-rc));
        return EX_OSERR;
    }
    rc = start_app(in, env);
    if (rc != 0)
        return rc;
    start_helper(in, env);
    in->oom_kills = exit_record_oom_kills("");
    loop(in);
    finish(in);
    return exit_status(in);
}

int init_main(int argc, char **argv, char *const *env) {
    struct init in = {.sig = SIGKILL, .helper = {.feed = {-1, -1, false}}, .oom_kills = -1};
    char why[WHY_BYTES];
    int rc;

    log_setup(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "pillion run");
    if (options_parse(&in.options, argc, argv, why, sizeof(why)) != 0) {
        log_error("%s", why);
        return EX_USAGE;
    }
    if (in.options.help)
        return fs_write_all(STDOUT_FILENO, options_help, strlen(options_help)) == 0 ? EX_OK
                                                                                    : EX_IOERR;
    rc = signals_take(&in.signals);
    if (rc != 0) {
        log_error("cannot block signals: %s", strerror(-rc));
        return EX_OSERR;
    }
    helper_no_more(&in.helper);
    rc = run(&in, env);
    helper_clear(&in.helper);
    stop_clear(&in.stop);
    config_clear(&in.config);
    return rc;
}
