#include "collectors/cgroup/parse.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"

#define NO_LIMIT 1152921504606846976.0 /* 2^60 */

/* Digits at *p, which then stands behind them. No sign, no space, nothing that overflows. */
static double digits(const char **p) {
    double v = 0;

    if (!isdigit((unsigned char)**p))
        return NAN;
    if (strspn(*p, "0123456789") > 20)
        return NAN;
    /* Exact up to 2^53, which is 8 PiB or 104 days in nanoseconds; rounded beyond, as every double is. */
    v = (double)strtoull(*p, NULL, 10);
    *p += strspn(*p, "0123456789");
    return v;
}

static bool at_end(const char *p) {
    return p[strspn(p, " \t\r\n")] == '\0';
}

double parse_number(const char *text) {
    double v = digits(&text);

    return at_end(text) ? v : NAN;
}

double parse_limit(const char *text) {
    double v = parse_number(text);

    return v >= NO_LIMIT ? NAN : v;
}

static const char *next_line(const char *p) {
    p = strchr(p, '\n');
    return p != NULL ? p + 1 : NULL;
}

double parse_key(const char *text, const char *key) {
    size_t len = strlen(key);

    for (const char *p = text; p != NULL; p = next_line(p)) {
        double v;

        if (strncmp(p, key, len) != 0 || p[len] != ' ')
            continue;
        p += len + 1;
        v = digits(&p);
        return *p == '\n' || *p == '\0' ? v : NAN;
    }
    return NAN;
}

double parse_cpu_max(const char *text) {
    double quota = digits(&text), period;

    if (*text++ != ' ') /* "max 100000" stops at its first letter */
        return NAN;
    period = digits(&text);
    return at_end(text) && period > 0 ? quota / period : NAN;
}

double parse_pressure(const char *text, const char *kind) {
    size_t len = strlen(kind);

    for (const char *p = text; p != NULL; p = next_line(p)) {
        const char *total, *end;

        if (strncmp(p, kind, len) != 0 || p[len] != ' ')
            continue;
        total = strstr(p, " total=");
        end = strchr(p, '\n');
        if (total == NULL || (end != NULL && total > end))
            return NAN;
        total += strlen(" total=");
        return digits(&total) / 1e6;
    }
    return NAN;
}

/* Adds the number behind `key` in the line at p, if it has one. */
static void add_of_line(const char *p, const char *key, double *sum) {
    const char *end = p + strcspn(p, "\n"), *at = strstr(p, key);
    double v;

    if (at == NULL || at > end)
        return;
    at += strlen(key);
    v = digits(&at);
    if (!isnan(v))
        *sum += v;
}

/* Each line begins with a device, "major:minor"; anything else is not this file. */
static bool is_device_line(const char *p) {
    size_t n = strspn(p, "0123456789");

    return n > 0 && p[n] == ':' && isdigit((unsigned char)p[n + 1]);
}

struct parse_io parse_io_stat(const char *text) {
    struct parse_io io = {0, 0};

    for (const char *p = text; p != NULL && *p != '\0'; p = next_line(p)) {
        if (!is_device_line(p)) {
            /* Some kernels leave a device without statistics as an empty or half line: "8:16 8:0 rbytes=…". */
            if (*p == '\n')
                continue;
            return (struct parse_io){NAN, NAN};
        }
        add_of_line(p, " rbytes=", &io.read);
        add_of_line(p, " wbytes=", &io.written);
    }
    return io;
}

struct parse_io parse_blkio(const char *text) {
    struct parse_io io = {0, 0};
    bool any = false;

    for (const char *p = text; p != NULL && *p != '\0'; p = next_line(p)) {
        if (strncmp(p, "Total ", 6) == 0) {
            any = true;
            continue;
        }
        if (!is_device_line(p))
            return (struct parse_io){NAN, NAN};
        any = true;
        add_of_line(p, " Read ", &io.read);
        add_of_line(p, " Write ", &io.written);
    }
    /* v1 always ends with a total; an empty file is one of a policy that is not in use. */
    return any ? io : (struct parse_io){NAN, NAN};
}

/* "  eth0: rx_bytes packets errs drop fifo frame compressed multicast tx_bytes packets errs drop …" */
static bool add_interface(const char *p, struct parse_net *net) {
    double v[12];

    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        p += strspn(p, " \t");
        v[i] = digits(&p);
        if (isnan(v[i]))
            return false;
    }
    for (size_t way = 0; way < 2; way++) {
        net->bytes[way] += v[8 * way];
        net->errors[way] += v[8 * way + 2];
        net->dropped[way] += v[8 * way + 3];
    }
    return true;
}

struct parse_net parse_net_dev(const char *text) {
    static const struct parse_net unknown = {{NAN, NAN}, {NAN, NAN}, {NAN, NAN}};
    struct parse_net net = {{0, 0}, {0, 0}, {0, 0}};
    const char *p = next_line(text);

    p = p != NULL ? next_line(p) : NULL; /* two lines of headings */
    if (p == NULL || strncmp(text, "Inter-|", 7) != 0)
        return unknown;
    for (; p != NULL && *p != '\0'; p = next_line(p)) {
        const char *name = p + strspn(p, " "), *colon = strchr(name, ':');
        const char *end = p + strcspn(p, "\n");

        /* names of aliases have a colon in them ("eth0:1"), but the kernel lists no aliases here */
        if (colon == NULL || colon > end)
            return unknown;
        if (colon - name == 2 && strncmp(name, "lo", 2) == 0)
            continue;
        if (!add_interface(colon + 1, &net))
            return unknown;
    }
    return net;
}

static void set_range(struct parse_cpus *c, unsigned from, unsigned to) {
    for (unsigned i = from; i <= to; i++)
        c->bits[i / 64] |= UINT64_C(1) << (i % 64);
}

bool parse_cpu_list(const char *text, struct parse_cpus *ret) {
    struct parse_cpus c = {{0}};
    const char *p = text + strspn(text, " \t");

    for (;;) {
        double from = digits(&p), to = from;

        if (*p == '-') {
            p++;
            to = digits(&p);
        }
        if (!(from <= to) || !(to < PARSE_CPUS))
            return false;
        set_range(&c, (unsigned)from, (unsigned)to);
        if (*p != ',')
            break;
        p++;
    }
    if (*p != '\n' && *p != '\0')
        return false;
    *ret = c;
    return true;
}

void parse_cpus_and(struct parse_cpus *a, const struct parse_cpus *b) {
    for (size_t i = 0; i < ARRAY_LEN(a->bits); i++)
        a->bits[i] &= b->bits[i];
}

unsigned parse_cpus_count(const struct parse_cpus *c) {
    unsigned n = 0;

    for (size_t i = 0; i < ARRAY_LEN(c->bits); i++)
        n += (unsigned)__builtin_popcountll(c->bits[i]);
    return n;
}
