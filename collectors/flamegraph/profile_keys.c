#include "collectors/flamegraph/profile_keys.h"

#include "agent/base/mem.h"

#define IS(text, key)                                                                              \
    if (memcmp(p, text, sizeof(text) - 1) == 0)                                                    \
    return key

/* Called a dozen times for each node: the length decides, then one comparison or two of constant size. */
enum profile_key profile_key(const char *p, size_t len) {
    switch (len) {
    case 2:
        IS("id", KEY_ID);
        break;
    case 3:
        IS("url", KEY_URL);
        break;
    case 4:
        IS("head", KEY_HEAD);
        break;
    case 5:
        IS("nodes", KEY_NODES);
        break;
    case 6:
        IS("parent", KEY_PARENT);
        IS("result", KEY_RESULT);
        break;
    case 7:
        IS("samples", KEY_SAMPLES);
        IS("endTime", KEY_END_TIME);
        IS("profile", KEY_PROFILE);
        break;
    case 8:
        IS("children", KEY_CHILDREN);
        IS("hitCount", KEY_HIT_COUNT);
        IS("selfSize", KEY_SELF_SIZE);
        IS("snapshot", KEY_SNAPSHOT);
        break;
    case 9:
        IS("callFrame", KEY_CALL_FRAME);
        IS("startTime", KEY_START_TIME);
        break;
    case 10:
        IS("lineNumber", KEY_LINE_NUMBER);
        IS("timeDeltas", KEY_TIME_DELTAS);
        break;
    case 11:
        IS("traceEvents", KEY_TRACE_EVENTS);
        break;
    case 12:
        IS("functionName", KEY_FUNCTION_NAME);
        IS("columnNumber", KEY_COLUMN_NUMBER);
        break;
    default:
        break;
    }
    return KEY_OTHER;
}
