/* profile_keys.h - the keys of a profile that mean something to us. */
#ifndef PILLION_FLAMEGRAPH_PROFILE_KEYS_H
#define PILLION_FLAMEGRAPH_PROFILE_KEYS_H

#include <stddef.h>

enum profile_key {
    KEY_OTHER,
    KEY_CALL_FRAME,
    KEY_CHILDREN,
    KEY_COLUMN_NUMBER,
    KEY_END_TIME,
    KEY_FUNCTION_NAME,
    KEY_HEAD,
    KEY_HIT_COUNT,
    KEY_ID,
    KEY_LINE_NUMBER,
    KEY_NODES,
    KEY_PARENT,
    KEY_PROFILE,
    KEY_RESULT,
    KEY_SAMPLES,
    KEY_SELF_SIZE,
    KEY_SNAPSHOT,
    KEY_START_TIME,
    KEY_TIME_DELTAS,
    KEY_TRACE_EVENTS,
    KEY_URL,
};

enum profile_key profile_key(const char *p, size_t len);

#endif
