/* options.h - the command line of `pillion run`. */
#ifndef PILLION_INIT_OPTIONS_H
#define PILLION_INIT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#define OPTIONS_WORKERS_MOST 1024
#define OPTIONS_WORKERS_AUTO 0

struct options {
    bool help;
    bool group;       /* -g */
    bool has_workers; /* --workers */
    unsigned workers; /* OPTIONS_WORKERS_AUTO */
    char **command;   /* what is left of argv: command or script and its arguments */
};

/* -EINVAL with what is wrong in `why`. */
int options_parse(struct options *ret, int argc, char **argv, char *why, size_t why_size);
extern const char options_help[];

#endif
