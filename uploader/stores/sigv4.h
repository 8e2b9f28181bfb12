/* sigv4.h - signs a request as AWS Signature Version 4 wants it, by its headers, and with the hash of the payload in it.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
 *
 * Our own, because libcurl 7.88 sends no x-amz-content-sha256 and signs an Expect that it may not send. No state. */
#ifndef PILLION_STORES_SIGV4_H
#define PILLION_STORES_SIGV4_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"

#define SIGV4_HEADERS    12
#define SIGV4_DATE_BYTES 17 /* "20130524T000000Z" and its NUL */

struct sigv4_key {
    const char *access, *secret, *region;
};

struct sigv4_header {
    const char *name; /* small letters */
    const char *value;
};

struct sigv4_request {
    const char *method;
    const char *path; /* as it is in the URL: sigv4_encode() */
    const char
        *query; /* as it is in the URL, parameters sorted by name, "=" behind each; "" none */
    const struct sigv4_header *headers; /* in any order, each once; with host and x-amz-date */
    size_t n_headers;
    const char *payload; /* what x-amz-content-sha256 says */
    const char *date;    /* what x-amz-date says */
};

/* Appends "AWS4-HMAC-SHA256 Credential=…". -EINVAL more than SIGV4_HEADERS, -ENOMEM, -EIO. */
int sigv4_sign(const struct sigv4_key *key, const struct sigv4_request *rq, struct buf *out);

void sigv4_date(int64_t unix_s, char out[SIGV4_DATE_BYTES]);
/* Appends to the string in `out`, everything percent-encoded but letters, digits and "-._~" (and '/', where it is kept). false: it does
 * not fit, and `out` is as it was. */
bool sigv4_encode(char *out, size_t size, const char *text, bool keep_slash);

#endif
