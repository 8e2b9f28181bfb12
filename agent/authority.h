/* authority.h - who may command over the network. On the status socket the peer's user is the authority, and nothing here is asked.
 *
 *   from this machine   Authorization: Bearer <PILLION_TOKEN>, or a signature
 *   from elsewhere      Pillion-Signature (uploader/sign.h) alone: the secret must not travel
 */
#ifndef PILLION_AUTHORITY_H
#define PILLION_AUTHORITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/http.h"

#define AUTHORITY_WHY_BYTES 256

struct authority_request {
    enum http_from from;
    const char *authorization; /* headers; NULL: not there */
    const char *signature;
    const char *method;
    const char *target; /* path and query as they came */
    const void *body;
    size_t body_len;
};

/* 0, or 401 (nothing was shown that could be accepted) or 403 (it is not right, or nobody may), with a line in `why`. `token` NULL:
 * none is set. *ret_signed: it may be a repeat of what somebody heard. */
unsigned authority_check(const struct authority_request *rq, const char *token, int64_t now_s,
                         bool *ret_signed, char *why);

#endif
