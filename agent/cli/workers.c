#include <errno.h>
#include <sysexits.h>

#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/cli/cli.h"
#include "agent/cli/client.h"
#include "agent/cli/terminal.h"
#include "agent/cli/worker_rows.h"

static const char help[] =
    "usage: pillion workers [--json]\n\n"
    "One line a worker: what it is, its state, CPU (100 is one core), resident memory, heap, how\n"
    "busy its event loop is and how late (99th percentile), and the last minute of its CPU.\n\n"
    "  --json   the page /workers of the status socket as it is, with every metric\n\n"
    "Examples:\n"
    "  pillion workers\n"
    "  pillion workers --json | jq -r '.workers[] | select(.state == \"blocked\") | .pid'\n\n"
    "Ends with 69 when no helper answers, 77 without permission.\n";

static int print_text(struct client *c, char *const *env) {
    struct rows_style style = {0};
    struct terminal terminal;
    struct row *rows = NULL;
    json_t *page = NULL;
    size_t n = 0, height;
    struct buf out;
    int rc = client_get_json(c, "/workers?history=1", &page);

    if (rc != EX_OK)
        return rc;
    if (worker_rows(page, &rows, &n) == 0) {
        terminal_look(&terminal, env);
        terminal_size(env, &style.width, &height);
        style.utf8 = terminal.utf8;
        style.colour = terminal.colour;
        rows_sort(rows, n, ROW_PID, false);
        buf_init(&out, LIMIT_HTTP_PAGE_BYTES);
        rows_write(&out, rows, n, &style);
        rc = client_print(&out);
        buf_clear(&out);
        if (n == 0 && rc == EX_OK)
            (void)fprintf(stderr, "no worker has connected yet\n");
    } else {
        (void)fprintf(stderr, "pillion %s: no memory\n", c->command);
        rc = EX_OSERR;
    }
    mem_free(rows);
    json_decref(page);
    return rc;
}

static int print_json(struct client *c) {
    struct buf body;
    int rc;

    buf_init(&body, LIMIT_HTTP_PAGE_BYTES);
    rc = client_get(c, "/workers", &body);
    if (rc == EX_OK)
        rc = client_print(&body);
    buf_clear(&body);
    return rc;
}

int cli_workers_main(int argc, char **argv, char *const *env) {
    struct client c;
    bool json = false;
    int rc = client_arguments(argc, argv, help, &json);

    if (rc >= 0)
        return rc;
    rc = client_open(&c, argv[0], env);
    if (rc == EX_OK)
        rc = json ? print_json(&c) : print_text(&c, env);
    client_close(&c);
    return rc;
}
