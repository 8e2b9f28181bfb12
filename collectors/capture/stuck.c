/* stuck.c - a worker whose loop does not turn, through Node's own inspector.
 *
 *   checks      it is still the same process, it has a handler for SIGUSR1, its loopback is ours
 *   knock       SIGUSR1; a thread of Node's wakes the main thread at the next place where V8 looks for interrupts, and that opens
 *               the inspector on the port that the preload chose (0: any). Found by /proc: nothing of Node's output is read
 *   work        pause for the stack; profile; or a heap snapshot or report that the worker itself writes into our FIFO
 *   close       process._debugEnd(), carried out where it is stuck, ends the connection and closes the port
 *
 * In native code V8 does not look for interrupts: no port opens, and /proc says where it is. The inspector would then open as soon
 * as the call returns; the worker's own part closes it (the order "settle", capture.c). Node prints "Debugger
 * listening on …" and "Debugger attached." to stderr; nothing can be done about that from outside. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "collectors/capture/inspector.h"
#include "collectors/capture/job.h"

#define OPEN_MS  1500 /* from the signal to an open port: 10 to 50 ms measured, if ever */
#define LOOK_MS  20
#define CALL_MS  5000
#define PAUSE_MS 2000
#define STOP_MS  120000 /* V8 writes 30 MB of profile a second, and a worker that swaps less */
#define CLOSE_MS 3000

static int fail(struct capture_job *j, int rc, const char *reason) {
    (void)snprintf(j->reason, sizeof(j->reason), "%s", reason);
    return rc;
}

static int check(struct capture_job *j) {
    int rc = process_check(&j->process);

    if (rc == -ESRCH)
        return fail(j, rc, "the worker has ended");
    if (rc == 0)
        rc = process_catches_usr1(&j->process);
    if (rc == 0)
        return fail(j, -ENOTSUP,
                    "its event loop is blocked, and it takes no inspector signal (SIGUSR1 is "
                    "switched off in it)");
    if (rc > 0)
        rc = process_shares_network(&j->process);
    if (rc == 0)
        return fail(j, -ENOTSUP,
                    "its event loop is blocked, and its loopback is in another network namespace "
                    "than ours");
    if (rc < 0) {
        (void)snprintf(j->reason, sizeof(j->reason),
                       "its event loop is blocked, and /proc/%d cannot be read: %s", j->process.pid,
                       strerror(-rc));
        return rc;
    }
    return 0;
}

static int send_signal(const struct capture_job *j) {
    int rc;

#ifdef SYS_pidfd_send_signal
    if (j->pidfd >= 0) {
        if (syscall(SYS_pidfd_send_signal, j->pidfd, SIGUSR1, NULL, 0) == 0)
            return 0;
        if (errno != ENOSYS && errno != EPERM) /* a sandbox may know kill() only */
            return -errno;
    }
#endif
    rc = process_check(&j->process); /* right before: the pid may be somebody else's by now */
    if (rc != 0)
        return rc;
    return kill(j->process.pid, SIGUSR1) == 0 ? 0 : -errno;
}

static int rest(const struct capture_job *j, int ms) {
    struct pollfd p = {.fd = j->cancel_fd, .events = POLLIN};

    return poll(&p, 1, ms) > 0 ? -ECANCELED : 0;
}

/* The port that opens because of our signal; -EAGAIN: none did. */
static int knock(struct capture_job *j, uint16_t *ret_port) {
    uint16_t before[PROCESS_PORTS_MAX], ports[PROCESS_PORTS_MAX];
    int n_before = process_ports(&j->process, NULL, 0, before);
    uint64_t until;
    int rc;

    if (n_before < 0)
        return fail(j, n_before, "its descriptors cannot be looked at");
    rc = send_signal(j);
    if (rc != 0)
        return fail(j, rc, rc == -ESRCH ? "the worker has ended" : "it could not be signalled");
    until = clock_mono_ms() + OPEN_MS;
    do {
        int n;

        rc = rest(j, LOOK_MS);
        if (rc != 0)
            return rc;
        n = process_ports(&j->process, before, n_before, ports);
        if (n < 0)
            return fail(j, n == -ENOENT ? -ESRCH : n,
                        n == -ENOENT ? "the worker has ended" : "/proc cannot be read");
        if (n > 0) {
            *ret_port = ports[0];
            return 0;
        }
    } while (clock_mono_ms() < until);
    return -EAGAIN;
}

static int tell_native(struct capture_job *j, const char *state) {
    char words[PROCESS_WORDS_BYTES];

    j->native = true;
    process_native(&j->process, state, &j->text, words);
    if (j->text.err != 0)
        return j->text.err;
    if (j->order.action == CAPTURE_STACK)
        return 0;
    (void)snprintf(j->reason, sizeof(j->reason),
                   "its main thread is %s: V8 answers nothing until that returns", words);
    return -EAGAIN;
}

/* --- work ---------------------------------------------------------------------------------------------------------------- */

/* Without a stack when nothing runs any more: then there is none. */
static int take_stack(struct inspector *i, struct capture_job *j) {
    int rc = inspector_call(i, "Debugger.enable", NULL, CALL_MS);

    inspector_expect(i, "Debugger.paused");
    if (rc == 0)
        rc = inspector_call(i, "Debugger.pause", NULL, CALL_MS);
    if (rc == 0)
        rc = inspector_wait(i, PAUSE_MS);
    if (rc == 0) {
        rc = stack_write(i->happening.data, i->happening.len, &i->scripts, &j->text);
        /* Whatever it was: the program goes on. */
        (void)inspector_call(i, "Debugger.resume", NULL, CALL_MS);
    } else if (rc == -ETIMEDOUT) {
        buf_puts(&j->text, "{\"state\":\"running\",\"stack\":[]}");
        rc = 0;
    }
    if (rc == 0)
        rc = inspector_call(i, "Debugger.disable", NULL, CALL_MS);
    return rc;
}

static int pass_time(struct inspector *i, unsigned seconds) {
    int rc = inspector_wait_closed(i, seconds * 1000ULL);

    return rc == -ETIMEDOUT ? 0 : rc == 0 ? -EPIPE : rc;
}

static int take_cpu_profile(struct inspector *i, struct capture_job *j) {
    char params[48];
    int rc = take_stack(i, j);

    (void)snprintf(params, sizeof(params), "{\"interval\":%u}", j->order.interval_us);
    if (rc == 0)
        rc = inspector_call(i, "Profiler.enable", NULL, CALL_MS);
    if (rc == 0)
        rc = inspector_call(i, "Profiler.setSamplingInterval", params, CALL_MS);
    if (rc == 0)
        rc = inspector_call(i, "Profiler.start", NULL, CALL_MS);
    if (rc == 0)
        rc = pass_time(i, j->order.seconds);
    if (rc == 0)
        rc = inspector_stream(i, "Profiler.stop", "profile", j->out, STOP_MS);
    return rc;
}

static int take_heap_profile(struct inspector *i, struct capture_job *j) {
    int rc = inspector_call(i, "HeapProfiler.getSamplingProfile", NULL, CALL_MS);

    if (rc == 0)
        return fail(
            j, -EBUSY,
            "the application samples its heap itself; there is one such sampler in a process");
    if (rc == -EREMOTEIO)
        rc = inspector_call(i, "HeapProfiler.startSampling", NULL, CALL_MS);
    if (rc == 0)
        rc = pass_time(i, j->order.seconds);
    if (rc == 0)
        rc = inspector_stream(i, "HeapProfiler.stopSampling", "profile", j->out, STOP_MS);
    return rc;
}

static int evaluate(struct inspector *i, const char *expression) {
    struct buf params;
    int rc;

    buf_init(&params, 8192);
    buf_puts(&params, "{\"includeCommandLineAPI\":true,\"silent\":true,\"expression\":");
    buf_json_string(&params, expression);
    buf_putc(&params, '}');
    rc = params.err;
    if (rc == 0)
        rc = inspector_send(i, "Runtime.evaluate", params.data);
    buf_clear(&params);
    return rc;
}

/* `before` and `after` stand around the quoted name of the FIFO; the worker writes while we read, and answers when it has closed it. */
static int take_written(struct inspector *i, struct capture_job *j, const char *before,
                        const char *after) {
    struct buf expression;
    int rc;

    buf_init(&expression, 4096);
    buf_puts(&expression, before);
    buf_json_string(&expression, j->fifo_path);
    buf_puts(&expression, after);
    rc = expression.err;
    if (rc == 0)
        rc = evaluate(i, expression.data);
    buf_clear(&expression);
    if (rc == 0)
        rc = drain_fifo(j, i->fd);
    if (rc == 0 && output_raw_bytes(j->out) == 0)
        return fail(
            j, -EIO,
            "the worker wrote nothing: it may not open our FIFO, or its Node.js cannot do this");
    return rc;
}

static int work(struct inspector *i, struct capture_job *j) {
    switch (j->order.action) {
    case CAPTURE_STACK:
        return take_stack(i, j);
    case CAPTURE_CPU_PROFILE:
        return take_cpu_profile(i, j);
    case CAPTURE_HEAP_PROFILE:
        return take_heap_profile(i, j);
    case CAPTURE_HEAP_SNAPSHOT:
    case CAPTURE_HEAP_HISTOGRAM:
        return take_written(i, j, "require('v8').writeHeapSnapshot(", ")");
    case CAPTURE_REPORT:
        return take_written(
            i, j,
            "((path)=>{const r=process.report;if(!('excludeNetwork' in r))throw new Error('no');"
            "const k=[r.excludeNetwork,r.excludeEnv];r.excludeNetwork=true;if('excludeEnv' in "
            "r)r.excludeEnv=true;"
            "let v;try{v=r.getReport()}finally{r.excludeNetwork=k[0];if('excludeEnv' in "
            "r)r.excludeEnv=k[1]}"
            "delete v.environmentVariables;require('fs').writeFileSync(path,JSON.stringify(v))})(",
            ")");
    default:
        return fail(j, -ENOTSUP, "its event loop is blocked, and this takes a loop that turns");
    }
}

/* Also after a failure or a cancel, so without heeding the cancel. */
static void close_inspector(struct inspector *i) {
    i->cancel_fd = -1;
    /* The preload set the port to 0, Node has put the open one in its place. */
    if (evaluate(i, "process._debugEnd();process.debugPort=0") != 0)
        return;
    (void)inspector_wait_closed(i, CLOSE_MS); /* else the worker's own part closes it */
}

static int ask(struct capture_job *j, uint16_t port) {
    struct inspector i;
    char why[256] = "";
    int rc;

    inspector_init(&i, j->cancel_fd);
    rc = inspector_connect(&i, port, CALL_MS, why);
    if (rc == 0) {
        rc = work(&i, j);
        close_inspector(&i);
    }
    inspector_clear(&i);
    if (rc == 0 && j->out != NULL)
        rc = job_end(j, why);
    if (rc != 0 && j->reason[0] == '\0' && why[0] != '\0')
        return fail(j, rc, why);
    return rc;
}

static const char *words_of(int rc) {
    switch (rc) {
    case -ECANCELED:
        return "cancelled";
    case -EPIPE:
        return "Node's inspector was closed while it was used: the loop turns again, or the worker "
               "has ended";
    case -ETIMEDOUT:
        return "the worker was reached and then answered no more: it may have gone into native "
               "code";
    case -EREMOTEIO:
        return "V8 refused";
    default:
        return strerror(-rc);
    }
}

void job_stuck(struct capture_job *j) {
    uint16_t port = 0;

    j->rc = check(j);
    if (j->rc == 0 && j->hands_off) {
        j->rc = tell_native(j, "blocked");
        return;
    }
    if (j->rc == 0)
        j->rc = knock(j, &port);
    if (j->rc == -EAGAIN)
        j->rc = tell_native(j, "native");
    else if (j->rc == 0)
        j->rc = ask(j, port);
    if (j->rc != 0 && j->reason[0] == '\0')
        (void)snprintf(j->reason, sizeof(j->reason), "%s", words_of(j->rc));
}
