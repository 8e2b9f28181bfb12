/* main.c - one program, several commands: a table. */
#include <sysexits.h>

#include "agent/agent.h"
#include "agent/base/buf.h"
#include "agent/base/mem.h"
#include "agent/cli/cli.h"
#include "agent/config.h"
#include "agent/init/init.h"

#define HELP_BYTES 65536

struct command {
    const char *name;
    const char *usage;
    const char *text;
    int (*run)(int argc, char **argv, char *const *env);
};

static const struct command commands[] = {
    {"run", "run [--] COMMAND [ARG …]",
     "start COMMAND and the helper beside it; a container's entrypoint", init_main},
    {"run", "run --workers N|auto SCRIPT [ARG …]",
     "a master, N workers and one helper from one command", init_main},
    {"agent", "agent", "the helper alone", agent_main},
    {"status", "status [--json]", "how the helper is and what it has done", cli_status_main},
    {"workers", "workers [--json]", "one line a worker", cli_workers_main},
    {"top", "top", "live view of all workers", cli_top_main},
    {"check", "check [--json]", "read the configuration, try everything, say what works",
     cli_check_main},
    {"jobs", "jobs [--json] [--cancel ID]", "what was captured, is being captured, waits",
     cli_jobs_main},
    {"cpu-profile", "cpu-profile WORKER [--seconds N] [-o FILE]",
     "where its time goes, stuck or not; with a flame graph", cli_capture_main},
    {"stack", "stack WORKER", "where it is right now, stuck or not", cli_capture_main},
    {"heap-snapshot", "heap-snapshot WORKER [-o FILE] [--allow-stall] [--force]",
     "everything in its heap", cli_capture_main},
    {"heap-histogram", "heap-histogram WORKER [--allow-stall] [--force]", "its heap by class",
     cli_capture_main},
    {"heap-profile", "heap-profile WORKER [--seconds N] [-o FILE]",
     "who allocates; with a flame graph", cli_capture_main},
    {"gc-trace", "gc-trace WORKER [--seconds N] [-o FILE]", "each garbage collection",
     cli_capture_main},
    {"report", "report WORKER [-o FILE]", "diagnostic report of Node.js", cli_capture_main},
    {"heap-diff", "heap-diff BEFORE AFTER [--json] [--top N]",
     "compare two heap snapshots by class", cli_heap_diff_main},
    {"flamegraph", "flamegraph FILE [-o OUT] [--format FORMAT] [--base OTHER]",
     "make a flame graph of a CPU or heap profile; works offline", cli_flamegraph_main},
    {"preload", "preload", "print the path to put after NODE_OPTIONS=--require", cli_preload_main},
};

static int print(struct buf *b) {
    int rc = b->err == 0 && fwrite(b->data, 1, b->len, stdout) == b->len && fflush(stdout) == 0
                 ? 0
                 : EX_OSERR;

    buf_clear(b);
    return rc;
}

static int help_main(int argc, char **argv, char *const *env) {
    struct buf b;

    (void)env;
    buf_init(&b, HELP_BYTES);
    if (argc > 1 && strcmp(argv[1], "--markdown") == 0) {
        config_markdown(&b);
        return print(&b);
    }
    if (argc > 1 && strcmp(argv[1], "--man") == 0) {
        config_man(&b);
        return print(&b);
    }
    buf_puts(&b, "pillion " PILLION_VERSION
                 " - the helper process that rides beside Node.js workers\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        buf_printf(&b, "  pillion %s\n      %s\n", commands[i].usage, commands[i].text);
    buf_puts(&b, "\nEach command has its own --help. Environment variables configure it:\n\n");
    config_help(&b);
    return print(&b);
}

static int version_main(int argc, char **argv, char *const *env) {
    (void)argc, (void)argv, (void)env;
    return puts("pillion " PILLION_VERSION) < 0 ? EX_OSERR : EX_OK;
}

static const struct command others[] = {
    {"--help", NULL, NULL, help_main},     {"-h", NULL, NULL, help_main},
    {"help", NULL, NULL, help_main},       {"--version", NULL, NULL, version_main},
    {"version", NULL, NULL, version_main},
};

static const struct command *find(const struct command *table, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

/* "run, agent, … and preload" */
static void print_names(FILE *to) {
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        if (i == 0 || strcmp(commands[i].name, commands[i - 1].name) != 0)
            (void)fprintf(to, "%s%s",
                          i == 0                        ? ""
                          : i + 1 < ARRAY_LEN(commands) ? ", "
                                                        : " and ",
                          commands[i].name);
}

int main(int argc, char **argv, char **envp) {
    const struct command *c = NULL;

    if (argc > 1) {
        c = find(commands, ARRAY_LEN(commands), argv[1]);
        if (c == NULL)
            c = find(others, ARRAY_LEN(others), argv[1]);
    }
    if (c != NULL)
        return c->run(argc - 1, argv + 1, envp);
    if (argc > 1)
        (void)fprintf(stderr, "pillion: no command '%s'; there are ", argv[1]);
    else
        (void)fprintf(stderr, "pillion: a command is wanted: ");
    print_names(stderr);
    (void)fprintf(stderr, argc > 1 ? "\n" : "; see pillion --help\n");
    return EX_USAGE;
}
