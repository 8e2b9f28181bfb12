#include "agent/authority.h"

#include <errno.h>

#include "agent/base/mem.h"
#include "uploader/sign.h"

#define BEARER "Bearer "

static unsigned refuse(unsigned status, char *why, const char *text) {
    (void)snprintf(why, AUTHORITY_WHY_BYTES, "%s", text);
    return status;
}

/* Takes the same time wherever they differ. */
static bool is_same(const char *given, const char *token) {
    size_t n = strlen(given), m = strlen(token);
    volatile unsigned char differs = n != m;

    for (size_t i = 0; i < m; i++)
        differs |= (unsigned char)(token[i] ^ given[i < n ? i : n]);
    return differs == 0;
}

static unsigned check_signature(const struct authority_request *rq, const char *token,
                                int64_t now_s, char *why) {
    char wrong[SIGN_WHY_BYTES] = "";

    if (sign_check(rq->signature, token, now_s, rq->method, rq->target, rq->body, rq->body_len,
                   wrong) == 0)
        return 0;
    (void)snprintf(why, AUTHORITY_WHY_BYTES, SIGN_HEADER ": %s", wrong);
    return 403;
}

unsigned authority_check(const struct authority_request *rq, const char *token, int64_t now_s,
                         bool *ret_signed, char *why) {
    *ret_signed = false;
    if (token == NULL)
        return refuse(403, why,
                      "PILLION_TOKEN is not set, so nobody may command over this port; the status "
                      "socket takes commands of its own user and of root");
    if (rq->signature != NULL) {
        *ret_signed = true;
        return check_signature(rq, token, now_s, why);
    }
    if (rq->from != HTTP_FROM_LOOPBACK)
        return refuse(rq->authorization != NULL ? 403 : 401, why,
                      rq->authorization != NULL
                          ? "a token that travels over a network is a token lost: change "
                            "PILLION_TOKEN, and sign the request (" SIGN_HEADER
                            ": t=<unix seconds>,v1=<hex HMAC-SHA256 of \"t.METHOD.path.body\">)"
                          : SIGN_HEADER ": t=<unix seconds>,v1=<hex HMAC-SHA256 of "
                                        "\"t.METHOD.path.body\"> with PILLION_TOKEN is required");
    if (rq->authorization == NULL)
        return refuse(401, why,
                      "Authorization: Bearer with PILLION_TOKEN, or " SIGN_HEADER ", is required");
    if (strncasecmp(rq->authorization, BEARER, strlen(BEARER)) != 0)
        return refuse(403, why, "Authorization: only Bearer is accepted");
    if (!is_same(rq->authorization + strlen(BEARER), token))
        return refuse(403, why, "Authorization: this is not PILLION_TOKEN");
    return 0;
}
