/* flamegraph.c - `pillion flamegraph FILE`: offline, without a helper. The result gets its name only when it is whole. */
#include "collectors/flamegraph/flamegraph.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "agent/base/clock.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "agent/cli/cli.h"
#include "agent/cli/client.h"

#define WHY_BYTES      256
#define NAME_BYTES     4096
#define PROGRESS_MS    1000
#define PROGRESS_EVERY 200

static const char help[] =
    "usage: pillion flamegraph FILE [-o OUT] [--format FORMAT] [--base OTHER] [--title TITLE] "
    "[--idle]\n\n"
    "Makes a flame graph of a CPU profile (.cpuprofile) or a sampling heap profile "
    "(.heapprofile),\n"
    "plain or gzip; FILE - is standard input. It works offline; no helper is needed.\n\n"
    "  -o OUT            where to; - is standard output. Default: FILE with .html in place of its "
    "ending\n"
    "  --format FORMAT   html, svg, folded, speedscope, pprof or text. Default: by the ending of "
    "OUT\n"
    "                    (.html .svg .folded .speedscope.json .pb.gz .txt), else html\n"
    "  --base OTHER      compare with an earlier profile (html and text)\n"
    "  --title TITLE     default: the file's name\n"
    "  --idle            show the time in which nothing ran, too\n\n"
    "Examples:\n"
    "  pillion flamegraph CPU.20260101.cpuprofile\n"
    "  pillion flamegraph app.cpuprofile.gz --format text -o -\n"
    "  pillion flamegraph after.cpuprofile --base before.cpuprofile -o change.html\n\n"
    "Ends with 65 when FILE is not a whole profile, 66 when it cannot be read, 73 when OUT cannot "
    "be made.\n";

struct order {
    const char *in, *out, *format, *base, *title;
    bool idle, help;
};

struct progress {
    uint64_t start_ms, last_ms;
    uint64_t size; /* of the file; 0: not known */
    bool wanted, shown;
};

static int usage(const char *fmt, const char *what) {
    char text[WHY_BYTES];

    (void)snprintf(text, sizeof(text), fmt, what);
    return client_usage("flamegraph", text);
}

static int read_arguments(int argc, char **argv, struct order *o) {
    const struct {
        const char *name;
        const char **value;
    } options[] = {{"-o", &o->out},
                   {"--output", &o->out},
                   {"--format", &o->format},
                   {"--base", &o->base},
                   {"--title", &o->title}};

    for (int i = 1; i < argc; i++) {
        size_t k = 0;

        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            o->help = true;
            return 0;
        }
        if (strcmp(argv[i], "--idle") == 0) {
            o->idle = true;
            continue;
        }
        while (k < ARRAY_LEN(options) && strcmp(argv[i], options[k].name) != 0)
            k++;
        if (k < ARRAY_LEN(options)) {
            if (++i == argc)
                return usage("%s wants a value", argv[i - 1]);
            *options[k].value = argv[i];
        } else if (argv[i][0] == '-' && argv[i][1] != '\0') {
            return usage("'%s' is not known; there are -o, --format, --base, --title and --idle",
                         argv[i]);
        } else if (o->in != NULL) {
            return usage("one FILE is wanted, '%s' is a second one", argv[i]);
        } else {
            o->in = argv[i];
        }
    }
    return o->in != NULL ? 0 : usage("a FILE is wanted%s", "");
}

/* FILE without .gz and .cpuprofile or .heapprofile, with the format's own ending. */
static void default_out(const char *in, const char *ending, char *out) {
    static const char *const known[] = {".gz", ".cpuprofile", ".heapprofile"};
    int len = (int)strlen(in);

    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        int n = (int)strlen(known[i]);

        if (len > n && strncmp(in + len - n, known[i], (size_t)n) == 0)
            len -= n;
    }
    (void)snprintf(out, NAME_BYTES, "%.*s%s", len, in, ending);
}

static int choose(struct order *o, enum flamegraph_format *ret, char *name) {
    static const char *const endings[FLAMEGRAPH_FORMATS] = {
        ".html", ".svg", ".folded", ".speedscope.json", ".pb.gz", ".txt"};

    *ret = FLAMEGRAPH_HTML;
    if (o->format != NULL) {
        if (flamegraph_format_read(o->format, ret) != 0)
            return usage("there is no format '%s'; there are html, svg, folded, speedscope, pprof "
                         "and text",
                         o->format);
    } else if (o->out != NULL) {
        (void)flamegraph_format_of_file(o->out, ret); /* else html */
    }
    if (o->out == NULL) {
        if (strcmp(o->in, "-") == 0) {
            o->out = "-";
        } else {
            default_out(o->in, endings[*ret], name);
            o->out = name;
        }
    }
    if (*ret == FLAMEGRAPH_PPROF && strcmp(o->out, "-") == 0 && isatty(STDOUT_FILENO))
        return usage("pprof is binary: give -o OUT, or send it into a file or pipe%s", "");
    return 0;
}

static void on_progress(void *arg, uint64_t bytes) {
    struct progress *p = arg;
    uint64_t now = clock_mono_ms();
    char done[32], all[32];

    if (!p->wanted || now - p->start_ms < PROGRESS_MS || now - p->last_ms < PROGRESS_EVERY)
        return;
    p->last_ms = now;
    p->shown = true;
    text_format_size(bytes - bytes % 1048576, done, sizeof(done));
    text_format_size(p->size - p->size % 1048576, all, sizeof(all));
    (void)fprintf(stderr, p->size > 0 ? "\r\033[Kread %s of %s" : "\r\033[Kread %s", done, all);
}

static int open_in(const char *name, struct progress *p) {
    struct stat st;
    int fd;

    if (strcmp(name, "-") == 0) {
        fd = STDIN_FILENO;
    } else {
        if (stat(name, &st) == 0 && S_ISDIR(st.st_mode))
            return -EISDIR;
        fd = open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
            return -errno;
    }
    if (p != NULL && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        p->size = (uint64_t)st.st_size;
    return fd;
}

/* What is there and no plain file (a device, a pipe) is written to as it is. */
static int open_out(const char *name, char *temporary) {
    struct stat st;
    int fd;

    temporary[0] = '\0';
    if (strcmp(name, "-") == 0)
        return STDOUT_FILENO;
    if (stat(name, &st) == 0 && !S_ISREG(st.st_mode)) {
        fd = open(name, O_WRONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
            return -errno;
        return fd;
    }
    if ((size_t)snprintf(temporary, NAME_BYTES, "%s.%ld.tmp", name, (long)getpid()) >= NAME_BYTES)
        return -ENAMETOOLONG;
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        temporary[0] = '\0';
        return -errno;
    }
    return fd;
}

static int say(const char *what, int rc) {
    (void)fprintf(stderr, "pillion flamegraph: %s: %s\n", what, strerror(-rc));
    return rc;
}

static int judge(const struct order *o, int rc, const char *why) {
    if (rc == 0)
        return EX_OK;
    (void)fprintf(stderr, "pillion flamegraph: %s: %s\n", o->in,
                  why[0] != '\0' ? why : strerror(-rc));
    if (rc == -ENOMEM)
        return EX_OSERR;
    return rc == -EINVAL || rc == -EFBIG ? EX_DATAERR : EX_IOERR;
}

static int finish_out(const struct order *o, int fd, const char *temporary, int rc) {
    if (fd != STDOUT_FILENO && close(fd) != 0 && rc == 0)
        rc = say(o->out, -errno) != 0 ? EX_IOERR : 0;
    if (temporary[0] == '\0')
        return rc;
    if (rc == 0 && rename(temporary, o->out) != 0)
        rc = say(o->out, -errno) != 0 ? EX_CANTCREAT : 0;
    if (rc != 0)
        (void)unlink(temporary); /* nothing whole is in it */
    return rc;
}

static int make(const struct order *o, enum flamegraph_format format) {
    struct progress progress = {.start_ms = clock_mono_ms(), .wanted = isatty(STDERR_FILENO)};
    struct flamegraph_options options = {.format = format,
                                         .base_fd = -1,
                                         .show_idle = o->idle,
                                         .progress = on_progress,
                                         .arg = &progress};
    const char *slash = strrchr(o->in, '/');
    char why[WHY_BYTES] = "", temporary[NAME_BYTES];
    int in = open_in(o->in, &progress), out = -1, rc = EX_NOINPUT;

    options.title = o->title != NULL          ? o->title
                    : strcmp(o->in, "-") == 0 ? NULL
                    : slash != NULL           ? slash + 1
                                              : o->in;
    if (in < 0) {
        (void)say(o->in, in);
        return EX_NOINPUT;
    }
    if (o->base != NULL && (options.base_fd = open_in(o->base, NULL)) < 0) {
        (void)say(o->base, options.base_fd);
        goto out;
    }
    out = open_out(o->out, temporary);
    if (out < 0) {
        (void)say(o->out, out);
        rc = EX_CANTCREAT;
        goto out;
    }
    rc = flamegraph_make(in, out, &options, why);
    if (progress.shown)
        (void)fputs("\r\033[K", stderr);
    rc = finish_out(o, out, temporary, judge(o, rc, why));
    if (rc == EX_OK && out != STDOUT_FILENO)
        (void)printf("%s\n", o->out);
out:
    if (options.base_fd > STDIN_FILENO)
        close(options.base_fd);
    if (in != STDIN_FILENO)
        close(in);
    return rc;
}

int cli_flamegraph_main(int argc, char **argv, char *const *env) {
    struct order o = {0};
    enum flamegraph_format format;
    char name[NAME_BYTES];
    int rc = read_arguments(argc, argv, &o);

    (void)env;
    if (rc != 0)
        return rc;
    if (o.help)
        return fputs(help, stdout) < 0 || fflush(stdout) != 0 ? EX_IOERR : EX_OK;
    if (o.base != NULL && strcmp(o.base, "-") == 0 && strcmp(o.in, "-") == 0)
        return usage("only one of the two can be standard input%s", "");
    rc = choose(&o, &format, name);
    if (rc != 0)
        return rc;
    (void)signal(SIGPIPE, SIG_IGN); /* EPIPE is an error like others, and the temporary file goes */
    return make(&o, format);
}
