/* helper_stats.h - what the helper itself costs: memory, CPU, descriptors, and how late its loop
 * is.
 *
 * A turn of the loop is what runs between two waits for events: what is ready then has to wait
 * for so long. Loop thread only. */
#ifndef PILLION_HELPER_STATS_H
#define PILLION_HELPER_STATS_H

#include <stdint.h>
#include <uv.h>

#define HELPER_LAG_BUCKETS 80 /* four a power of two, from 1 us to 1 s */

struct helper_window {
    uint64_t max_ns;
    uint64_t turns;
    uint32_t buckets[HELPER_LAG_BUCKETS];
};

struct helper_stats {
    uv_prepare_t prepare;
    int started;
    uint64_t wall_ns, idle_ns; /* at the end of the last turn */
    struct helper_window now, last;
    uint64_t window_ns, turns;
    uint64_t mark_ns[2];
    double mark_cpu_s[2];
};

struct helper_numbers { /* NaN: not known */
    double rss_bytes;
    double cpu_s; /* user and system since the start, all threads */
    double cpu;   /* share of a core in the last 10 to 20 s */
    double descriptors;
    double descriptors_limit;
    double lag_max_s; /* longest turn in the last one to two minutes */
    double lag_p99_s;
    double turns; /* since the start */
};

/* Costs no wake-up of its own: it counts when the loop turns anyway. The loop must not have run
 * yet. */
int helper_stats_start(struct helper_stats *h, uv_loop_t *loop);
void helper_stats_close(
    struct helper_stats *h); /* asynchronous, no callback: let the loop run out */
void helper_stats_read(struct helper_stats *h, struct helper_numbers *ret);

#endif
