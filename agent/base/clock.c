#include "agent/base/clock.h"

#include <time.h>

static uint64_t read_ns(clockid_t id) {
    struct timespec ts = {0};

    (void)clock_gettime(id, &ts); /* cannot fail for these clocks on any Linux we run on */
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t clock_mono_ns(void) {
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t clock_mono_ms(void) {
    return read_ns(CLOCK_MONOTONIC) / 1000000u;
}

uint64_t clock_boot_ms(void) {
    return read_ns(CLOCK_BOOTTIME) / 1000000u;
}

int64_t clock_wall_ms(void) {
    return (int64_t)(read_ns(CLOCK_REALTIME) / 1000000u);
}

static void put_digits(char *out, unsigned v, int n, char behind) {
    out[n] = behind;
    while (n-- > 0) {
        out[n] = (char)('0' + v % 10);
        v /= 10;
    }
}

void clock_iso(int64_t wall_ms, char out[CLOCK_ISO_BYTES]) {
    const int64_t last_ms = 253402300799999; /* 9999-12-31T23:59:59.999Z */
    int64_t ms = wall_ms < 0 ? 0 : wall_ms > last_ms ? last_ms : wall_ms;
    time_t s = (time_t)(ms / 1000);
    struct tm tm;

    (void)gmtime_r(&s, &tm);
    put_digits(out, (unsigned)(tm.tm_year + 1900), 4, '-');
    put_digits(out + 5, (unsigned)(tm.tm_mon + 1), 2, '-');
    put_digits(out + 8, (unsigned)tm.tm_mday, 2, 'T');
    put_digits(out + 11, (unsigned)tm.tm_hour, 2, ':');
    put_digits(out + 14, (unsigned)tm.tm_min, 2, ':');
    put_digits(out + 17, (unsigned)tm.tm_sec, 2, '.');
    put_digits(out + 20, (unsigned)(ms % 1000), 3, 'Z');
    out[CLOCK_ISO_BYTES - 1] = '\0';
}
