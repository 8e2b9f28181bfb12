#include <errno.h>
#include <math.h>
#include <sysexits.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/cli/cli.h"
#include "agent/cli/client.h"
#include "agent/cli/terminal.h"
#include "agent/commands.h"
#include "agent/human.h"

#define ID_WIDTH     18
#define ACTION_WIDTH 15
#define WORKER_WIDTH 18
#define STATE_WIDTH  10
#define PATH_BYTES   256

static const char help[] =
    "usage: pillion jobs [--json] [--cancel ID]\n\n"
    "What was captured, is being captured and waits for its turn, newest first; of a finished one\n"
    "where its files are, of a failed one why.\n\n"
    "  --json        the page /jobs of the status socket as it is\n"
    "  --cancel ID   cancels this job, or all of this command\n\n"
    "Examples:\n"
    "  pillion jobs\n"
    "  pillion jobs --json | jq -r '.jobs[] | select(.state == \"done\") | .artifacts[].url'\n\n"
    "Ends with 69 when no helper answers or no job has this id, 77 without permission.\n";

/* One line, and one more for each file. */
static void put_job(struct buf *out, const json_t *job, bool utf8) {
    const json_t *files = json_object_get(job, "artifacts"), *f;
    double progress = client_number(job, "progress");
    const char *reason = client_string(job, "reason"), *note = client_string(job, "note");
    char size[HUMAN_BYTES];
    size_t i;

    human_cell(out, client_string(job, "id"), ID_WIDTH, true, utf8);
    buf_putc(out, ' ');
    human_cell(out, client_string(job, "action"), ACTION_WIDTH, true, utf8);
    buf_putc(out, ' ');
    human_cell(out, client_string(job, "worker"), WORKER_WIDTH, true, utf8);
    buf_putc(out, ' ');
    human_cell(out, client_string(job, "state"), STATE_WIDTH, true, utf8);
    if (strcmp(client_string(job, "state"), "running") == 0 && isfinite(progress))
        buf_printf(out, " %3.0f %%", progress * 100);
    if (*reason != '\0' || *note != '\0') {
        buf_putc(out, ' ');
        human_cell(out, *reason != '\0' ? reason : note, 4 * ID_WIDTH, false, utf8);
    }
    buf_putc(out, '\n');
    json_array_foreach((json_t *)(uintptr_t)files, i, f) {
        const char *url = client_string(f, "url");

        human_bytes(client_number(f, "bytes"), size);
        buf_printf(out, "    %s %s ", client_string(f, "kind"), size);
        human_cell(out, *url != '\0' ? url : "on its way to the store", 1000, false, utf8);
        buf_putc(out, '\n');
    }
}

static int print_text(struct client *c, char *const *env) {
    struct terminal terminal;
    json_t *page = NULL, *jobs, *job;
    struct buf out;
    size_t i;
    int rc = client_get_json(c, "/jobs", &page);

    if (rc != EX_OK)
        return rc;
    terminal_look(&terminal, env);
    buf_init(&out, LIMIT_HTTP_PAGE_BYTES);
    jobs = json_object_get(page, "jobs");
    json_array_foreach(jobs, i, job) put_job(&out, job, terminal.utf8);
    rc = client_print(&out);
    if (json_array_size(jobs) == 0 && rc == EX_OK)
        (void)fprintf(stderr, "no job yet; see pillion cpu-profile --help\n");
    buf_clear(&out);
    json_decref(page);
    return rc;
}

static int print_json(struct client *c) {
    struct buf body;
    int rc;

    buf_init(&body, LIMIT_HTTP_PAGE_BYTES);
    rc = client_get(c, "/jobs", &body);
    if (rc == EX_OK)
        rc = client_print(&body);
    buf_clear(&body);
    return rc;
}

static int cancel(struct client *c, const char *id) {
    char path[PATH_BYTES];
    json_t *job = NULL;
    int rc;

    (void)snprintf(path, sizeof(path), "/v1/jobs/%s", id);
    rc = client_ask(c, "DELETE", path, NULL, &job);
    if (rc == EX_OK)
        (void)printf("%s: %s\n", id, client_string(job, "state"));
    json_decref(job);
    return rc;
}

/* An id is put into a path. */
static bool is_id(const char *s) {
    return strlen(s) < PATH_BYTES / 2 &&
           s[strspn(s, "abcdefghijklmnopqrstuvwxyz"
                       "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@")] == '\0';
}

int cli_jobs_main(int argc, char **argv, char *const *env) {
    const char *id = NULL;
    struct client c;
    bool json = false;
    int rc;

    if (argc == 3 && strcmp(argv[1], "--cancel") == 0) {
        id = argv[2];
        if (!is_id(id))
            return client_usage(argv[0], "this is not the id of a job");
        rc = -1;
    } else {
        rc = client_arguments(argc, argv, help, &json);
    }
    if (rc >= 0)
        return rc;
    rc = client_open(&c, argv[0], env);
    if (rc == EX_OK)
        rc = id != NULL ? cancel(&c, id) : json ? print_json(&c) : print_text(&c, env);
    client_close(&c);
    return rc;
}
