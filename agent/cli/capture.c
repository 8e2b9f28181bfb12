/* capture.c - heap-snapshot, heap-histogram, cpu-profile, heap-profile, gc-trace, report, stack: one command to the helper, and
 * what becomes of it.
 *
 *   arguments → POST /v1/commands → GET /v1/jobs/{id}, until it has ended → what there is to say, or FILE (capture_file.c)
 *
 * Ctrl-C cancels the job and waits for its end; a second one does not wait. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <sysexits.h>

#include "agent/base/clock.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/cli/capture_file.h"
#include "agent/cli/cli.h"
#include "agent/cli/client.h"
#include "agent/commands.h"
#include "agent/human.h"

#define POLL_MS    200
#define QUIET_MS   1000 /* what ends sooner needs no line of progress */
#define BODY_BYTES 1024
#define PATH_BYTES 256
#define LEFT       130 /* 128 + SIGINT, as a shell has it */

struct asked {
    const char *command; /* "cpu-profile" */
    char action[32];     /* "cpu_profile" */
    const char *worker;
    const char *output; /* NULL: none */
    uint64_t seconds, interval_us;
    bool allow_stall, force, json;
};

static volatile sig_atomic_t interrupted;

static const char help[] =
    "usage: pillion %s WORKER [--seconds N] [--interval-us N] [-o FILE] [--allow-stall] [--force]\n"
    "                [--json]\n\n"
    "Has it captured, stored and announced (PILLION_STORE, PILLION_NOTIFY), and says where it is.\n"
    "The application runs on. WORKER is a pid, all, a role (worker, primary, agent), PID:START as\n"
    "`pillion workers --json` shows it, or PID:START/THREAD.\n\n"
    "  --seconds N      how long to look: cpu-profile, heap-profile (10), gc-trace (30); 1 to 300\n"
    "  --interval-us N  cpu-profile: microseconds between two samples, 100 to 100000 (1000)\n"
    "  -o FILE          a copy here as well; FILE.html is the flame graph, FILE.gz is compressed,\n"
    "                   - is standard output. Of several workers each gets its pid into the name\n"
    "  --allow-stall    heap-snapshot, heap-histogram: the worker may be stopped for it\n"
    "  --force          the same, even when memory may not suffice\n"
    "  --json           the job as the status socket shows it\n\n"
    "Ctrl-C cancels it. Ends with 70 when it failed, 130 when it was cancelled, 69 when no helper\n"
    "answers or no worker is meant, 75 when there is no room for it now, 77 without permission.\n";

/* --- arguments ------------------------------------------------------------------------------------------------------------ */

/* The value of "--name VALUE", or NULL with the reason printed. */
static const char *value_of(const struct asked *a, int argc, char **argv, int *i, int *ret) {
    char wrong[128];

    if (*i + 1 < argc)
        return argv[++*i];
    (void)snprintf(wrong, sizeof(wrong), "%.40s wants a value", argv[*i]);
    *ret = client_usage(a->command, wrong);
    return NULL;
}

static int read_number(const struct asked *a, const char *name, const char *value, uint64_t *ret) {
    char wrong[128];

    if (value == NULL || text_u64(value, ret) == 0)
        return -1;
    (void)snprintf(wrong, sizeof(wrong), "%s '%.40s' is not a number", name, value);
    return client_usage(a->command, wrong);
}

static int read_one(struct asked *a, int argc, char **argv, int *i) {
    const char *arg = argv[*i];
    char wrong[160];
    int rc = -1;

    if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)
        return printf(help, a->command) < 0 ? EX_IOERR : EX_OK;
    if (strcmp(arg, "--json") == 0) {
        a->json = true;
    } else if (strcmp(arg, "--allow-stall") == 0) {
        a->allow_stall = true;
    } else if (strcmp(arg, "--force") == 0) {
        a->allow_stall = a->force = true;
    } else if (strcmp(arg, "-o") == 0 || strcmp(arg, "--output") == 0) {
        a->output = value_of(a, argc, argv, i, &rc);
    } else if (strcmp(arg, "--seconds") == 0) {
        const char *value = value_of(a, argc, argv, i, &rc);

        rc = value != NULL ? read_number(a, arg, value, &a->seconds) : rc;
    } else if (strcmp(arg, "--interval-us") == 0) {
        const char *value = value_of(a, argc, argv, i, &rc);

        rc = value != NULL ? read_number(a, arg, value, &a->interval_us) : rc;
    } else if (arg[0] == '-' || a->worker != NULL) {
        (void)snprintf(wrong, sizeof(wrong), "'%.100s' is not an argument of it", arg);
        rc = client_usage(a->command, wrong);
    } else {
        a->worker = arg;
    }
    return rc;
}

static int read_arguments(struct asked *a, int argc, char **argv) {
    *a = (struct asked){.command = argv[0]};
    (void)text_copy(a->action, sizeof(a->action), argv[0]);
    for (char *p = a->action; *p != '\0'; p++)
        *p = *p == '-' ? '_' : *p;
    for (int i = 1; i < argc; i++) {
        int rc = read_one(a, argc, argv, &i);

        if (rc >= 0)
            return rc;
    }
    return a->worker != NULL ? -1
                             : client_usage(a->command, "WORKER is wanted: a pid, all or a role");
}

/* --- the conversation ------------------------------------------------------------------------------------------------------- */

static int order(struct client *c, const struct asked *a, const char *id, json_t **ret) {
    struct buf body;
    int rc = EX_OSERR;

    buf_init(&body, BODY_BYTES);
    buf_printf(&body, "{\"id\":\"%s\",\"action\":\"%s\",\"worker\":", id, a->action);
    buf_json_string(&body, a->worker);
    buf_printf(&body, ",\"params\":{\"hold\":%s", a->output != NULL ? "true" : "false");
    if (a->seconds != 0)
        buf_printf(&body, ",\"seconds\":%llu", (unsigned long long)a->seconds);
    if (a->interval_us != 0)
        buf_printf(&body, ",\"interval_us\":%llu", (unsigned long long)a->interval_us);
    if (a->allow_stall)
        buf_puts(&body, ",\"allow_stall\":true");
    if (a->force)
        buf_puts(&body, ",\"force\":true");
    buf_puts(&body, "}}");
    if (body.err == 0)
        rc = client_ask(c, "POST", "/v1/commands", body.data, ret);
    else
        rc = client_usage(a->command, "the arguments are too long");
    buf_clear(&body);
    return rc;
}

static bool has_ended(const json_t *job) {
    const char *state = client_string(job, "state");

    return strcmp(state, "queued") != 0 && strcmp(state, "running") != 0;
}

/* The last line is written over; `end`: taken away. */
static void show_progress(const struct asked *a, const json_t *job, bool end) {
    const char *note = client_string(job, "note"), *state = client_string(job, "state");
    double share = client_number(job, "progress");

    if (end) {
        (void)fputs("\r\033[K", stderr);
        return;
    }
    (void)fprintf(stderr, "\r\033[K%s of %s: %s", a->command, a->worker, state);
    if (isfinite(share) && share > 0)
        (void)fprintf(stderr, ", %.0f %%", share * 100);
    if (*note != '\0')
        (void)fprintf(stderr, ", %s", note);
    (void)fflush(stderr);
}

static void on_interrupt(int signum) {
    (void)signum;
    interrupted++;
}

/* *job is replaced by what it has become. */
static int follow(struct client *c, const struct asked *a, const char *id, json_t **job) {
    bool terminal = isatty(STDERR_FILENO) == 1, cancelled = false, shown = false;
    uint64_t start = clock_mono_ms();
    char path[PATH_BYTES];
    int rc = EX_OK;

    (void)snprintf(path, sizeof(path), "/v1/jobs/%s", id);
    while (rc == EX_OK && !has_ended(*job)) {
        json_t *next = NULL;
        struct pollfd nap = {.fd = -1};

        if (terminal && clock_mono_ms() - start > QUIET_MS) {
            show_progress(a, *job, false);
            shown = true;
        }
        if (interrupted > 1)
            break;
        if (interrupted == 0 || cancelled)
            (void)poll(&nap, 0, POLL_MS);
        rc = client_ask(c, interrupted > 0 && !cancelled ? "DELETE" : "GET", path, NULL, &next);
        cancelled = interrupted > 0;
        if (rc == EX_OK) {
            json_decref(*job);
            *job = next;
        }
    }
    if (shown)
        show_progress(a, *job, true);
    return rc;
}

/* --- what there is to say ----------------------------------------------------------------------------------------------------- */

/* A frame a line, as Node prints its own. */
static void print_frames(const json_t *frames) {
    const json_t *f;
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)frames, i, f) {
        const char *name = client_string(f, "function");

        (void)printf("    at %s (%s:%.0f:%.0f)\n", *name != '\0' ? name : "(anonymous)",
                     client_string(f, "url"), client_number(f, "line"), client_number(f, "column"));
    }
}

/* Of a loop that is stuck there is one; of one that turns there are those that were seen, with their share of the time. */
static void print_stack(const json_t *job, const json_t *result) {
    const json_t *stacks = json_object_get(result, "stacks"), *one;
    const char *how = client_string(result, "how");
    double idle = client_number(result, "idle");
    size_t i;

    (void)printf("worker %s: %s%s%s", client_string(job, "worker"), client_string(result, "state"),
                 *how != '\0' ? ", " : "", how);
    (void)printf(isfinite(idle) ? ", idle for %.0f %%\n" : "\n", idle * 100);
    print_frames(json_object_get(result, "stack"));
    json_array_foreach((json_t *)(uintptr_t)stacks, i, one) {
        (void)printf("  %.0f %%\n", client_number(one, "share") * 100);
        print_frames(json_object_get(one, "frames"));
    }
    if (*client_string(result, "text") != '\0')
        (void)printf("    %s\n", client_string(result, "text"));
}

static void print_result(const json_t *job) {
    const json_t *result = json_object_get(job, "result");
    char *text;

    if (result == NULL)
        return;
    if (json_is_array(json_object_get(result, "stack")) ||
        json_is_array(json_object_get(result, "stacks"))) {
        print_stack(job, result);
        return;
    }
    text = json_dumps(result, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    if (text != NULL)
        (void)puts(text);
    mem_free(text);
}

static void print_artifacts(const json_t *job) {
    const json_t *list = json_object_get(job, "artifacts"), *one;
    char size[HUMAN_BYTES];
    size_t i;

    json_array_foreach((json_t *)(uintptr_t)list, i, one) {
        const char *url = client_string(one, "url");

        human_bytes(client_number(one, "bytes"), size);
        (void)printf("worker %s: %s, %s, %s\n", client_string(job, "worker"),
                     client_string(one, "kind"), size,
                     *url != '\0' ? url : "on its way to the store");
    }
}

static int print_job(const struct asked *a, const json_t *job) {
    const char *state = client_string(job, "state"), *reason = client_string(job, "reason");
    bool done = strcmp(state, "done") == 0;

    if (done && a->output == NULL && !a->json &&
        json_array_size(json_object_get(job, "artifacts")) == 0)
        print_result(job);
    else if (done && a->output == NULL && !a->json)
        print_artifacts(job);
    if (!done)
        (void)fprintf(stderr, "pillion %s: worker %s: %s%s%s\n", a->command,
                      client_string(job, "worker"), state, *reason != '\0' ? ": " : "", reason);
    return done ? EX_OK : strcmp(state, "cancelled") == 0 ? LEFT : EX_SOFTWARE;
}

static int finish_one(const struct asked *a, const json_t *job, bool several) {
    int rc = print_job(a, job);

    if (rc == EX_OK && a->output != NULL)
        rc = capture_file_copy(a->command, job, a->action, a->output, several);
    return rc;
}

static int finish(const struct asked *a, const json_t *job) {
    const json_t *parts = json_object_get(job, "jobs"), *one;
    int rc = EX_OK, worst = EX_OK;
    size_t i;

    if (parts == NULL)
        worst = finish_one(a, job, false);
    json_array_foreach((json_t *)(uintptr_t)parts, i, one) {
        rc = finish_one(a, one, true);
        worst = worst == EX_OK ? rc : worst;
    }
    if (a->json) {
        char *text = json_dumps(job, JSON_INDENT(2) | JSON_REAL_PRECISION(15));

        if (text == NULL || puts(text) < 0)
            worst = EX_OSERR;
        mem_free(text);
    }
    if (fflush(stdout) != 0)
        worst = EX_IOERR;
    return worst;
}

int cli_capture_main(int argc, char **argv, char *const *env) {
    /* From before the order on: what is ordered is also cancelled. */
    struct sigaction action = {.sa_handler = on_interrupt};
    char id[COMMAND_ID_BYTES + 1];
    struct client c;
    struct asked a;
    json_t *job = NULL;
    int rc = read_arguments(&a, argc, argv);

    if (rc >= 0)
        return rc;
    command_make_id(id);
    rc = client_open(&c, argv[0], env);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    if (rc == EX_OK)
        rc = order(&c, &a, id, &job);
    if (rc == EX_OK)
        rc = follow(&c, &a, id, &job);
    if (rc == EX_OK)
        rc = has_ended(job) ? finish(&a, job) : LEFT;
    json_decref(job);
    client_close(&c);
    return rc;
}
