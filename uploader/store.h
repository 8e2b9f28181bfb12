/* store.h - where artifacts go: a directory, HTTP PUT, WebDAV, S3. Whole or not at all, and verified before it is called done.
 *
 *     file:  file:DIR                 renamed (or copied) into place, file and directory synced
 *     http(s)://[user:password@]…/    PUT, then HEAD: the length must be ours
 *     webdav+http(s)://[…]            folders by MKCOL, PUT to a temporary name, HEAD, MOVE, HEAD
 *     s3://bucket[/prefix]            one PUT, or parts that go on after a kill; then HEAD: length and SHA-256 must be ours
 *
 * An answer means what uploader/answer.h says, but for the codes of S3 (uploader/stores/s3_answer.c). Loop thread only; what may
 * take long on a disk, and hashes, go to worker threads. */
#ifndef PILLION_UPLOADER_STORE_H
#define PILLION_UPLOADER_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "agent/base/buf.h"
#include "uploader/answer.h"
#include "uploader/http.h"

struct store;

/* As the AWS_… variables have it; NULL or "": not set. Used by s3: only. */
struct store_s3 {
    const char *access_key, *secret_key, *session_token;
    const char *region;   /* NULL: us-east-1 */
    const char *endpoint; /* http(s)://host[:port]; NULL: Amazon's own */
};
/* AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION or AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_S3 or
 * AWS_ENDPOINT_URL. Points into the environment. */
struct store_s3 store_s3_environment(void);

/* Everything is copied but loop and http. */
struct store_env {
    uv_loop_t *loop;
    struct http *http;    /* NULL: no remote store was asked for */
    const char *data_dir; /* "file:" without a directory is artifacts/ below it */
    const char *
        state_dir; /* where an upload that can be resumed keeps its state; NULL: <data_dir>/uploads */
    const struct store_s3 *s3; /* NULL: store_s3_environment() */
};

struct store_result {
    /* 0: whole at its final name and verified. -EAGAIN: try again later, `answer` says how. -ECANCELED. Any other: it will never be
     * taken (-EPERM refused by the other end, -ESTALE the file is not what it was said to be, or is gone). */
    int rc;
    enum answer
        answer; /* rc -EAGAIN: ANSWER_RETRY, or ANSWER_SETTLE: somebody has to change something first */
    const char *url;        /* rc 0: where it is, without secrets */
    const char *error;      /* rc != 0: for people, without secrets */
    int64_t retry_after_ms; /* -1: not said */
};

/* Strings are copied. */
struct store_file {
    int dirfd; /* borrowed until done */
    const char
        *name; /* local file in it; a directory as a store takes it away, the others leave it */
    const char *
        key; /* artifact_key(): components of letters, digits and "._-=@+," with '/' between them */
    const char *content_type; /* NULL: application/octet-stream */
    uint64_t bytes;
    const char *sha256; /* 64 hex digits, small letters */
};

typedef void (*store_done_cb)(void *arg, const struct store_result *result);

/* `spec` as PILLION_STORE has it. -EINVAL with a line in `why` (no secrets), -ENOMEM. */
int store_new(struct store **ret, const char *spec, const struct store_env *env, struct buf *why);
bool store_spec_is_remote(const char *spec);
bool store_is_local(const struct store *s);
const char *store_name(const struct store *s); /* for status, without secrets */
const char *store_dir(const struct store *s);  /* of a local one; NULL of others */
/* One at a time: -EBUSY. progress (may be NULL): bytes taken so far, never from inside this call. done exactly once, never from
 * inside store_put(), store_cancel() or store_close(); it may put the next one. -EINVAL the key, -ESHUTDOWN, -ENOMEM. */
int store_put(struct store *s, const struct store_file *file,
              void (*progress)(void *arg, uint64_t bytes), store_done_cb done, void *arg);
/* done comes with -ECANCELED, soon. What can be resumed is kept. Nothing under way: nothing happens. */
void store_cancel(struct store *s);
/* `key` will not be put again: what an unfinished upload of it has left at the other end goes with the next put. */
void store_forget(struct store *s, const char *key);
/* Tries the store with a small object and takes it away again (`pillion check`). result->url: where it was. */
int store_probe(struct store *s, store_done_cb done, void *arg);
void store_close(struct store *s, void (*closed)(void *arg), void *arg);

#endif
