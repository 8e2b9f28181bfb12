#include "agent/base/counters.h"

#include <stdatomic.h>

static atomic_uint_fast64_t values[COUNTER_COUNT];

static const struct {
    const char *name;
    const char *help;
} texts[COUNTER_COUNT] = {
#define X(id, name, help) [COUNTER_##id] = {name, help},
    COUNTER_TABLE(X)
#undef X
};

void counter_add(enum counter c, uint64_t n) {
    atomic_fetch_add_explicit(&values[c], n, memory_order_relaxed);
}

uint64_t counter_get(enum counter c) {
    return atomic_load_explicit(&values[c], memory_order_relaxed);
}

const char *counter_name(enum counter c) {
    return texts[c].name;
}

const char *counter_help(enum counter c) {
    return texts[c].help;
}
