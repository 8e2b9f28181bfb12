#include "agent/init/options.h"

#include <errno.h>
#include <stdint.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

const char options_help[] =
    "pillion run [-g] [--] COMMAND [ARG …]\n"
    "pillion run [-g] --workers N|auto [--] SCRIPT [ARG …]\n"
    "\n"
    "Starts COMMAND and the helper beside it, forwards signals, reaps, and ends with COMMAND's\n"
    "exit status. With --workers: a Node.js master that keeps N workers with SCRIPT running "
    "(auto:\n"
    "as many as the CPU quota allows) and reloads them one by one on SIGHUP.\n"
    "\n"
    "  -g, --group    forward signals to COMMAND's whole process group, not to COMMAND alone\n"
    "  -h, --help     this text\n"
    "\n"
    "Exit status: that of COMMAND; 128 + n when signal n ended it; 127 not found; 126 cannot be\n"
    "executed; 64 wrong usage; 71 the system refused.\n";

static int parse_workers(struct options *o, const char *value, char *why, size_t why_size) {
    uint64_t n = 0;

    o->has_workers = true;
    o->workers = OPTIONS_WORKERS_AUTO;
    if (strcmp(value, "auto") == 0)
        return 0;
    if (text_u64(value, &n) != 0 || n < 1 || n > OPTIONS_WORKERS_MOST) {
        (void)snprintf(why, why_size, "--workers %.40s: a number from 1 to %d or 'auto' is wanted",
                       value, OPTIONS_WORKERS_MOST);
        return -EINVAL;
    }
    o->workers = (unsigned)n;
    return 0;
}

int options_parse(struct options *ret, int argc, char **argv, char *why, size_t why_size) {
    struct options o = {0};
    int i, rc = 0;

    for (i = 1; i < argc && argv[i][0] == '-' && rc == 0; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (strcmp(argv[i], "-g") == 0 || strcmp(argv[i], "--group") == 0) {
            o.group = true;
        } else if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0) {
            o.help = true;
        } else if (text_starts(argv[i], "--workers=")) {
            rc = parse_workers(&o, argv[i] + strlen("--workers="), why, why_size);
        } else if (strcmp(argv[i], "--workers") == 0 && i + 1 < argc) {
            rc = parse_workers(&o, argv[++i], why, why_size);
        } else if (strcmp(argv[i], "--workers") == 0) {
            (void)snprintf(why, why_size, "--workers: how many? A number or 'auto' is wanted");
            rc = -EINVAL;
        } else {
            (void)snprintf(why, why_size, "unknown option %.40s (put -- in front of a command)",
                           argv[i]);
            rc = -EINVAL;
        }
    }
    if (rc != 0)
        return rc;
    if (i >= argc && !o.help) {
        (void)snprintf(why, why_size, "%s",
                       o.has_workers ? "which script? See pillion run --help"
                                     : "which command? See pillion run --help");
        return -EINVAL;
    }
    o.command = argv + i;
    *ret = o;
    return 0;
}
