/* store_impl.h - inside of uploader/store.h: what the kinds of store share. For uploader/store.c and the files of this folder.
 *
 *     store_put → ops->start … store_finish → (timer) → done
 *     store_probe → ops->probe, or ops->start … store_finish → ops->remove … store_finish → done
 *     store_cancel → ops->cancel … store_finish(-ECANCELED) → done */
#ifndef PILLION_STORES_STORE_IMPL_H
#define PILLION_STORES_STORE_IMPL_H

#include "uploader/store.h"
#include "uploader/stores/hash.h"
#include "uploader/url.h"

#define STORE_KEY_BYTES   512
#define STORE_NAME_BYTES  256 /* of a file */
#define STORE_URL_BYTES   2048
#define STORE_ERROR_BYTES 400

struct store_ops {
    bool local;
    void (*start)(struct store *s); /* the file is s->fd (not for local ones), s->key, … */
    void (*cancel)(struct store *s);
    void (*probe)(struct store *s);                   /* local ones only */
    void (*remove)(struct store *s);                  /* s->key, after a probe */
    void (*forget)(struct store *s, const char *key); /* may be NULL */
    void (*free)(struct store *s); /* of what is the kind's own; then the block goes */
};

/* First member of each kind's own struct. */
struct store {
    const struct store_ops *ops;
    uv_loop_t *loop;
    uv_timer_t timer; /* progress while something is under way; the end of it, never from inside */
    char name[URL_SHOW_BYTES];
    char *dir; /* of a local one */
    void (*closed)(void *arg);
    void *closed_arg;
    bool closing, timer_closed;

    /* What is under way. */
    bool busy, finished, cancelled, probing, removing;
    int fd, dirfd;
    char local[STORE_NAME_BYTES], key[STORE_KEY_BYTES], content_type[96], sha256[HASH_HEX_BYTES];
    uint64_t bytes, sent, told;
    void (*progress)(void *arg, uint64_t bytes);
    store_done_cb done;
    void *arg;
    struct store_result result;
    char url[STORE_URL_BYTES], error[STORE_ERROR_BYTES];
};

/* The end of what is under way: rc 0, -EAGAIN with `answer`, -ECANCELED, or another. `fmt`: why, for people. */
void store_finish(struct store *s, int rc, enum answer answer, int64_t retry_after_ms,
                  const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* The kinds. `rest` is what stands behind "file:" or "s3://", else the whole address without "webdav+". */
int store_dir_new(struct store **ret, const char *rest, const struct store_env *env,
                  struct buf *why);
int store_put_new(struct store **ret, const char *address, const struct store_env *env,
                  struct buf *why);
int store_webdav_new(struct store **ret, const char *address, const struct store_env *env,
                     struct buf *why);
int store_s3_new(struct store **ret, const char *rest, const struct store_env *env,
                 struct buf *why);

#endif
