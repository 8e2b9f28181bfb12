/* payload.h - one JSON object that a peer sent: capped before it is parsed, read key by key, each error in words that name
 * the key and what is accepted. For ipc/message.c; knows nothing of what the keys mean.
 *
 * Readers return 0, or -EINVAL with the reason in `why`, or -ENOMEM; *ret is written only on success. */
#ifndef PILLION_PAYLOAD_H
#define PILLION_PAYLOAD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define PAYLOAD_WHY_BYTES 256

struct payload {
    char *why;      /* PAYLOAD_WHY_BYTES, the caller's */
    char where[32]; /* put before each reason: "fields[3]." */
};

/* Always -EINVAL. */
int payload_refuse(const struct payload *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* For the caller to json_decref(). Its strings are valid UTF-8 without NUL. */
int payload_object(const char *json, size_t len, json_t **ret, const struct payload *p);

/* fallback < 0: the key is required. */
int payload_integer(json_t *object, const char *key, json_int_t min, json_int_t max,
                    json_int_t fallback, json_int_t *ret, const struct payload *p);

/* Empty when it is not there. What does not fit is cut between two characters; control characters become spaces. */
int payload_label(json_t *object, const char *key, bool required, char *out, size_t size,
                  const struct payload *p);

/* 1 to LIMIT_NAME_BYTES letters, digits, "." and "_". */
bool payload_is_name(const char *s);
bool payload_is_alnum(char c);
/* Bytes of the character of valid UTF-8 that starts with this one. */
size_t payload_utf8_bytes(char first);

#endif
