/* json.h - pull tokenizer for one JSON document (RFC 8259) of any size: nothing is kept but the window of its source.
 *
 *     json_enter(j, '{');
 *     for (bool first = true; (rc = json_member(j, &first, &key)) > 0;)
 *         … read or json_skip() its value …
 *
 * Functions return 0, or 1 where said, or a negative errno, which sticks: -EINVAL with a line in `why` (what is wrong at which
 * byte). Spans live until the next call. What is skipped is checked for its brackets and strings only. */
#ifndef PILLION_FLAMEGRAPH_JSON_H
#define PILLION_FLAMEGRAPH_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/limits.h"
#include "collectors/flamegraph/source.h"

#define JSON_WHY_BYTES 256

struct json_span {
    const char *p; /* not terminated; escapes are resolved; not checked for UTF-8 */
    size_t len;
};

struct json {
    struct source *source; /* borrowed */
    const unsigned char *p, *end;
    char *why; /* JSON_WHY_BYTES, the caller's */
    int err;
    size_t scratch_len;
    char scratch[LIMIT_PROFILE_NAME_BYTES + 4];
};

void json_init(struct json *j, struct source *source, char *why);
/* Position for messages: the byte that is looked at, from 0. */
uint64_t json_offset(const struct json *j);
int json_fail(struct json *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What was read from `offset` on is still in the window: *ret is where. */
bool json_seen(const struct json *j, uint64_t offset, const unsigned char **ret);

/* The next byte that is not white space, not taken; at the end of the input 0. */
int json_peek(struct json *j, unsigned char *ret);
/* `open` is '{' or '['. */
int json_enter(struct json *j, char open);
/* 1: a key, its colon is taken; 0: the object has ended. */
int json_member(struct json *j, bool *first, struct json_span *ret);
/* 1: there is an element; 0: the array has ended. */
int json_element(struct json *j, bool *first);
/* Strings beyond LIMIT_PROFILE_NAME_BYTES are cut (at a character's begin). */
int json_string(struct json *j, struct json_span *ret);
int json_number(struct json *j, double *ret);
/* Whole numbers; a fraction is cut off, what is beyond ±2^53 becomes ±2^53. */
int json_integer(struct json *j, int64_t *ret);
int json_skip(struct json *j);
/* Nothing but white space is left. */
int json_finish(struct json *j);

#endif
