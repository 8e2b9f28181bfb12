/* parse.h - the text formats of control group files and their neighbours under /proc and /sys. Pure; any input is fine.
 *
 * What is not there, or is not what it should be, is NaN. Formats: see collectors/cgroup.h. */
#ifndef PILLION_CGROUP_PARSE_H
#define PILLION_CGROUP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A lone decimal number; NaN for "max", a negative one, anything else. */
double parse_number(const char *text);
/* The same for a limit: NaN also for what stands for "none" in v1 (a page below 2^63) and everything else beyond 1 EiB. */
double parse_limit(const char *text);
/* The number in the line "<key> <number>". */
double parse_key(const char *text, const char *key);
/* cpu.max, "QUOTA PERIOD": CPUs; NaN when there is no quota. */
double parse_cpu_max(const char *text);
/* Total stall times in seconds: line "<kind> avg10=… total=<microseconds>". */
double parse_pressure(const char *text, const char *kind);

struct parse_io {
    double read, written; /* bytes; 0 where the file is there and lists no device */
};
struct parse_io parse_io_stat(const char *text); /* v2: "8:0 rbytes=1 wbytes=2 …" */
struct parse_io parse_blkio(const char *text);   /* v1: "8:0 Read 1" */

struct parse_net {
    double bytes[2], errors[2], dropped[2]; /* received, transmitted; of all interfaces but lo */
};
struct parse_net parse_net_dev(const char *text); /* /proc/net/dev */

#define PARSE_CPUS 8192 /* Linux's own CONFIG_NR_CPUS ends there */
struct parse_cpus {
    uint64_t bits[PARSE_CPUS / 64];
};
/* "0-3,8,10-11" up to the end of the line. False (and nothing written) when it is empty or is not a list. */
bool parse_cpu_list(const char *text, struct parse_cpus *ret);
void parse_cpus_and(struct parse_cpus *a, const struct parse_cpus *b);
unsigned parse_cpus_count(const struct parse_cpus *c);

#endif
