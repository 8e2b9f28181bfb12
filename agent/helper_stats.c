/* How long a turn takes is what passes between two prepare phases, less the time that the loop
 * spent waiting (which libuv counts when asked to: UV_METRICS_IDLE_TIME). A turn goes into a
 * histogram; there are two, of this minute and of the one before. */
#include "agent/helper_stats.h"

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <sys/resource.h>

#include "agent/base/counters.h"
#include "agent/base/fs.h"
#include "agent/base/mem.h"

#define WINDOW_NS 60000000000u
#define MARK_NS   10000000000u
#define LATE_NS   10000000u

/* Four buckets a power of two from 1.024 us on. */
static unsigned bucket_of(uint64_t ns) {
    uint64_t us = ns >> 10;
    unsigned log2, i;

    if (us == 0)
        return 0;
    log2 = 63u - (unsigned)__builtin_clzll(us);
    i = log2 * 4 + (unsigned)(log2 >= 2 ? (us >> (log2 - 2)) & 3 : (us << (2 - log2)) & 3);
    return i < HELPER_LAG_BUCKETS ? i : HELPER_LAG_BUCKETS - 1;
}

/* The upper end of a bucket. */
static double bucket_end_s(unsigned i) {
    return (double)(4 + (i & 3) + 1) * ldexp(1, (int)(i / 4)) / 4 * 1024 / 1e9;
}

static double cpu_seconds(void) {
    struct rusage ru;

    if (getrusage(RUSAGE_SELF, &ru) != 0)
        return NAN;
    return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
           (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

static void mark(struct helper_stats *h, uint64_t now) {
    if (now - h->mark_ns[1] < MARK_NS)
        return;
    h->mark_ns[0] = h->mark_ns[1];
    h->mark_cpu_s[0] = h->mark_cpu_s[1];
    h->mark_ns[1] = now;
    h->mark_cpu_s[1] = cpu_seconds();
}

static void on_prepare(uv_prepare_t *p) {
    struct helper_stats *h = container_of(p, struct helper_stats, prepare);
    uint64_t now = uv_hrtime(), idle = uv_metrics_idle_time(p->loop);
    uint64_t turn = now - h->wall_ns, waited = idle - h->idle_ns;

    turn = turn > waited ? turn - waited : 0;
    h->wall_ns = now;
    h->idle_ns = idle;
    if (now - h->window_ns >= WINDOW_NS) {
        h->last = h->now;
        h->now = (struct helper_window){0};
        h->window_ns = now;
    }
    h->now.turns++;
    h->turns++;
    h->now.buckets[bucket_of(turn)]++;
    if (turn > h->now.max_ns)
        h->now.max_ns = turn;
    if (turn > LATE_NS)
        counter_add(COUNTER_LOOP_LATE, 1);
    mark(h, now);
}

int helper_stats_start(struct helper_stats *h, uv_loop_t *loop) {
    int rc = uv_loop_configure(loop, UV_METRICS_IDLE_TIME);

    if (rc != 0)
        return rc;
    *h = (struct helper_stats){.started = 1, .wall_ns = uv_hrtime()};
    h->window_ns = h->mark_ns[0] = h->mark_ns[1] = h->wall_ns;
    h->mark_cpu_s[0] = h->mark_cpu_s[1] = cpu_seconds();
    (void)uv_prepare_init(loop, &h->prepare); /* these never fail */
    (void)uv_prepare_start(&h->prepare, on_prepare);
    uv_unref((uv_handle_t *)&h->prepare);
    return 0;
}

void helper_stats_close(struct helper_stats *h) {
    if (h->started == 0)
        return;
    h->started = 0;
    uv_close((uv_handle_t *)&h->prepare, NULL);
}

static double rss_bytes(void) {
    char text[256];
    char *end;
    unsigned long pages;

    if (fs_read_at(AT_FDCWD, "/proc/self/statm", text, sizeof(text)) <= 0)
        return NAN;
    (void)strtoul(text, &end, 10); /* size; then resident */
    pages = strtoul(end, NULL, 10);
    return pages > 0 ? (double)pages * (double)sysconf(_SC_PAGESIZE) : NAN;
}

static double open_descriptors(void) {
    DIR *d = opendir("/proc/self/fd");
    double n = -3; /* ".", ".." and the one that opendir() took */

    if (d == NULL)
        return NAN;
    while (readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
}

static void read_lag(const struct helper_stats *h, struct helper_numbers *ret) {
    uint64_t turns = h->now.turns + h->last.turns, seen = 0;
    uint64_t max = h->now.max_ns > h->last.max_ns ? h->now.max_ns : h->last.max_ns;

    ret->lag_max_s = turns > 0 ? (double)max / 1e9 : NAN;
    ret->lag_p99_s = NAN;
    for (unsigned i = 0; i < HELPER_LAG_BUCKETS && turns > 0; i++) {
        seen += h->now.buckets[i] + h->last.buckets[i];
        if (seen * 100 >= turns * 99) {
            ret->lag_p99_s = fmin(bucket_end_s(i), ret->lag_max_s);
            break;
        }
    }
}

void helper_stats_read(struct helper_stats *h, struct helper_numbers *ret) {
    double cpu = cpu_seconds(), since;
    struct rlimit files;

    since = (double)(uv_hrtime() - h->mark_ns[0]) / 1e9;
    *ret = (struct helper_numbers){.rss_bytes = rss_bytes(), .cpu_s = cpu};
    ret->cpu = since > 0.5 ? (cpu - h->mark_cpu_s[0]) / since : NAN;
    ret->descriptors = open_descriptors();
    ret->descriptors_limit =
        getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY
            ? (double)files.rlim_cur
            : NAN;
    ret->turns = (double)h->turns;
    read_lag(h, ret);
}
