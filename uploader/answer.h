/* answer.h - the one table that says what an answer of a remote end means for the batch that was sent (P25), and how long to wait.
 *
 *     answer                                          verdict  why
 *     2xx                                             taken
 *     no connection, no answer in time, cut, not      retry    the end is away; nothing is known of the batch
 *       HTTP, headers beyond the cap, TLS refused
 *     408 425 500 502 503 504, other 5xx, 1xx         retry    the end cannot just now
 *     429, and any of these with Retry-After          retry    not before the time it says (5 min at most)
 *     3xx, 401, 403, 404, 405, 407, 421, 426          settle   it is not the batch but the address, the path or the credentials:
 *                                                              nothing is thrown away, tried again every 30 to 60 s
 *     413                                             split    in halves, down to single records, which are then parked
 *     other 4xx: 400, 406, 409, 415, 422, 431 …       park     it will never take this: beside, with the reason; the queue goes on
 *
 * Retries have no limit of tries. Waiting is "full jitter": anything between 0.1 s and the back-off, which doubles from 1 s to 60 s.
 * https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ */
#ifndef PILLION_UPLOADER_ANSWER_H
#define PILLION_UPLOADER_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uploader/http.h"

enum answer {
    ANSWER_TAKEN,
    ANSWER_RETRY,  /* the same again, after answer_wait_ms() */
    ANSWER_SETTLE, /* the same: somebody has to change something first */
    ANSWER_SPLIT,  /* too long: less at a time */
    ANSWER_PARK    /* never again */
};

enum answer answer_meaning(const struct http_reply *reply);
/* The same for a status alone (of one item of an answer). */
enum answer answer_of_status(long status);

/* `failures` in a row, this one included: 1, 2, …; retry_after_ms -1: not said. */
uint64_t answer_wait_ms(enum answer a, unsigned failures, int64_t retry_after_ms);
/* The same for a given random number, for tests and simulations. */
uint64_t answer_wait_with(enum answer a, unsigned failures, int64_t retry_after_ms,
                          uint32_t random);

/* "401 Unauthorized: …", with the beginning of what the other side says, without secrets; or what went wrong on the way. */
void answer_text(const struct http_reply *reply, char *out, size_t size);

/* Uniform in [least, most]. Not for secrets. */
uint64_t answer_random(uint64_t least, uint64_t most);

#endif
