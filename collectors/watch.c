#include "collectors/watch.h"

#include <math.h>

#include "agent/base/mem.h"

#define HYSTERESIS 0.05

bool watch_blocked(uint64_t now_ms, uint64_t heard_ms, uint64_t period_ms, uint64_t after_ms) {
    return now_ms > heard_ms && now_ms - heard_ms > period_ms + after_ms;
}

enum watch_change watch_limit(bool *on, double used, double limit, double share) {
    double now = used / limit;

    if (isnan(now) || limit <= 0)
        return WATCH_SAME;
    if (!*on && now >= share) {
        *on = true;
        return WATCH_RAISED;
    }
    if (*on && now < share - HYSTERESIS) {
        *on = false;
        return WATCH_CLEARED;
    }
    return WATCH_SAME;
}
