/* sign.h - the signature that proves who sent a request without the secret travelling with it:
 *
 *     Pillion-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of "t.METHOD.path.body", keyed with the token>
 *
 * `path` is what stands in the request line, its query included. Used for the webhooks that we send and for the command port. */
#ifndef PILLION_UPLOADER_SIGN_H
#define PILLION_UPLOADER_SIGN_H

#include <stddef.h>
#include <stdint.h>

#include "agent/base/buf.h"

#define SIGN_HEADER      "Pillion-Signature"
#define SIGN_TOLERANCE_S 300
#define SIGN_WHY_BYTES   128

/* Appends the header's value (without its name) to `out`. -EINVAL: no token; -ENOMEM; -EIO: this libcrypto has no HMAC-SHA256. */
int sign_make(struct buf *out, const char *token, int64_t unix_s, const char *method,
              const char *path, const void *body, size_t len);

/* 0: made with this token for exactly this request, at most SIGN_TOLERANCE_S before or after `now` (unix seconds). Else a line for
 * people in `why` (SIGN_WHY_BYTES; never the right signature) and -EINVAL: not of the form above; -ETIME: too old, or from a clock
 * ahead of ours; -EACCES: does not match; -ENOMEM, -EIO as above. Takes the same time whatever byte differs. Several v1= may follow
 * each other (a sender that changes its token); names that are not known are passed over. */
int sign_check(const char *header, const char *token, int64_t now, const char *method,
               const char *path, const void *body, size_t len, char *why);

#endif
