/* attach.c - see collectors/attach.h.
 *
 *   SIGUSR1 → a port on loopback → Runtime.evaluate("require(preload)") → process._debugEnd()
 * The signal leaves word in several places of the process, and one of them may open the inspector a second time after it was closed:
 * that is looked at for a while, and closed again. */
#include "collectors/attach.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/clock.h"
#include "agent/base/text.h"
#include "collectors/capture/inspector.h"
#include "collectors/capture/process.h"

#define OPEN_MS  3000
#define LOOK_MS  20
#define CALL_MS  5000
#define CLOSE_MS 3000
#define AFTER_MS 600 /* for so long the inspector may come back */

/* Node has put the port that it opened into process.debugPort; the preload wants a 0 there, and nobody minds Node's own default. */
#define CLOSE "process._debugEnd();if(process.debugPort!==9229)process.debugPort=0"

static int no(char *why, int rc, const char *reason) {
    (void)snprintf(why, 256, "%s", reason);
    return rc;
}

/* The signal is a bad idea for any other program. */
static int check(const struct process_view *p, char *why) {
    char path[48], exe[4096];
    const char *name;
    ssize_t n;
    int rc = process_check(p);

    if (rc != 0)
        return no(why, rc,
                  rc == -ESRCH ? "there is no such process"
                               : "/proc tells nothing of this process");
    (void)snprintf(path, sizeof(path), "%d/exe", p->pid);
    n = readlinkat(p->proc_fd, path, exe, sizeof(exe) - 1);
    if (n <= 0)
        return no(why, -EPERM,
                  "this process is another user's: only its own user and root may attach");
    exe[n] = '\0';
    name = strrchr(exe, '/');
    if (name == NULL || !text_starts(name + 1, "node"))
        return no(why, -ENOTSUP, "this process is no Node.js");
    rc = process_catches_usr1(p);
    if (rc <= 0)
        return no(
            why, -ENOTSUP,
            "it takes no inspector signal (SIGUSR1 is switched off in it, or it has just begun)");
    rc = process_shares_network(p);
    if (rc <= 0)
        return no(why, -ENOTSUP, "its loopback is in another network namespace than ours");
    return 0;
}

static int wait_port(const struct process_view *p, const uint16_t *known, int n_known, uint64_t ms,
                     uint16_t *ret) {
    uint64_t until = clock_mono_ms() + ms;
    uint16_t ports[PROCESS_PORTS_MAX];

    do {
        int n;

        (void)poll(NULL, 0, LOOK_MS);
        n = process_ports(p, known, n_known, ports);
        if (n < 0)
            return n;
        if (n > 0) {
            *ret = ports[0];
            return 0;
        }
    } while (clock_mono_ms() < until);
    return -EAGAIN;
}

static int evaluate(struct inspector *i, const char *before, const char *text, const char *after) {
    struct buf expression, params;
    int rc;

    buf_init(&expression, 16384);
    buf_init(&params, 32768);
    buf_puts(&expression, before);
    if (text != NULL)
        buf_json_string(&expression, text);
    buf_puts(&expression, after);
    buf_puts(&params, "{\"includeCommandLineAPI\":true,\"silent\":true,\"expression\":");
    buf_json_string(&params, expression.data != NULL ? expression.data : "");
    buf_putc(&params, '}');
    rc = expression.err != 0 ? expression.err : params.err;
    if (rc == 0)
        rc = text != NULL ? inspector_call(i, "Runtime.evaluate", params.data, CALL_MS)
                          : inspector_send(i, "Runtime.evaluate", params.data);
    buf_clear(&expression);
    buf_clear(&params);
    return rc;
}

static int do_it(struct inspector *i, const char *preload, bool detach, char *why) {
    int rc =
        detach
            ? evaluate(i,
                       "(p=>{const "
                       "m=require.cache[p];if(!m)return'none';m.exports.detach();return'done'})(",
                       preload, ")")
            : evaluate(i, "(p=>{require(p);return'done'})(", preload, ")");

    if (rc != 0)
        return no(why, rc, "its inspector was reached and did not answer");
    if (strstr(i->answer.data, "\"value\":\"none\"") != NULL)
        return no(why, -EALREADY, "nothing of ours is in this process");
    if (strstr(i->answer.data, "\"value\":\"done\"") == NULL)
        return no(why, -EIO, "it refused: it may not read the preload, or runs without require()");
    return 0;
}

/* One visit; `work`: not only to close. */
static int visit(unsigned port, const char *preload, bool detach, bool work, char *why) {
    struct inspector i;
    int rc;

    inspector_init(&i, -1);
    rc = inspector_connect(&i, port, CALL_MS, why);
    if (rc == 0 && work)
        rc = do_it(&i, preload, detach, why);
    if (i.fd >= 0 && evaluate(&i, CLOSE, NULL, "") == 0)
        (void)inspector_wait_closed(&i, CLOSE_MS); /* whether it is closed is looked at again */
    inspector_clear(&i);
    return rc;
}

int attach_process(int proc_fd, pid_t pid, const char *preload, bool detach, char *why) {
    struct process_view p = {.proc_fd = proc_fd, .pid = pid};
    uint16_t before[PROCESS_PORTS_MAX], port = 0;
    char ignored[256];
    int n, rc = check(&p, why);

    if (rc != 0)
        return rc;
    n = process_ports(&p, NULL, 0, before);
    if (n < 0)
        return no(why, n, "its descriptors cannot be looked at");
    if (kill(pid, SIGUSR1) != 0)
        return no(why, -errno, "it could not be signalled");
    rc = wait_port(&p, before, n, OPEN_MS, &port);
    if (rc != 0)
        return no(why, rc,
                  "its inspector did not open: another process has port 9229, it handles SIGUSR1 "
                  "itself, or it is stuck in native code");
    rc = visit(port, preload, detach, true, why);
    while (wait_port(&p, before, n, AFTER_MS, &port) == 0 &&
           visit(port, preload, detach, false, ignored) == 0)
        ;
    return rc;
}
