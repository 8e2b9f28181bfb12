/* All went well: store_put → ops->start → (the kind's steps) → store_finish → on_timer → done.
 * The kind fails, or is cancelled: the same, with another rc. Closed while busy: cancelled first, then on_closed. */
#include "uploader/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "agent/base/fs.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/stores/store_impl.h"

#define TICK_MS 250
#define PROBE_TEXT                                                                                 \
    "Written by `pillion check` to see whether this store takes files. It may be removed.\n"

static const char *set_or_null(const char *name) {
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? value : NULL;
}

static const char *either(const char *first, const char *second) {
    return first != NULL ? first : second;
}

struct store_s3 store_s3_environment(void) {
    return (struct store_s3){
        .access_key = set_or_null("AWS_ACCESS_KEY_ID"),
        .secret_key = set_or_null("AWS_SECRET_ACCESS_KEY"),
        .session_token = set_or_null("AWS_SESSION_TOKEN"),
        .region = either(set_or_null("AWS_REGION"), set_or_null("AWS_DEFAULT_REGION")),
        .endpoint = either(set_or_null("AWS_ENDPOINT_URL_S3"), set_or_null("AWS_ENDPOINT_URL")),
    };
}

/* --- the kinds ---------------------------------------------------------------------------------- */

static const struct {
    const char *prefix;
    size_t skip; /* of the prefix is not the kind's business */
    bool remote;
    int (*make)(struct store **ret, const char *rest, const struct store_env *env, struct buf *why);
} kinds[] = {
    {"file:", 5, false, store_dir_new},
    {"http://", 0, true, store_put_new},
    {"https://", 0, true, store_put_new},
    {"webdav+http://", 7, true, store_webdav_new},
    {"webdav+https://", 7, true, store_webdav_new},
    {"s3://", 5, true, store_s3_new},
};

bool store_spec_is_remote(const char *spec) {
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (text_starts(spec, kinds[i].prefix))
            return kinds[i].remote;
    return false;
}

int store_new(struct store **ret, const char *spec, const struct store_env *env, struct buf *why) {
    char shown[URL_SHOW_BYTES];
    struct store *s = NULL;
    int rc = -EINVAL;

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (!text_starts(spec, kinds[i].prefix))
            continue;
        rc = kinds[i].make(&s, spec + kinds[i].skip, env, why);
        if (rc != 0)
            return rc;
        s->loop = env->loop;
        s->fd = -1;
        (void)uv_timer_init(env->loop, &s->timer); /* never fails */
        *ret = s;
        return 0;
    }
    text_show(shown, sizeof(shown), spec);
    buf_printf(why,
               "PILLION_STORE=\"%s\": is not file:, file:DIR, http(s)://HOST/PATH/ (PUT), "
               "webdav+http(s)://HOST/PATH/ or s3://BUCKET/PREFIX",
               shown);
    return rc;
}

bool store_is_local(const struct store *s) {
    return s->ops->local;
}

const char *store_name(const struct store *s) {
    return s->name;
}

const char *store_dir(const struct store *s) {
    return s->dir;
}

/* --- one at a time ------------------------------------------------------------------------------ */

static void on_closed(uv_handle_t *handle) {
    struct store *s = container_of((uv_timer_t *)handle, struct store, timer);
    void (*closed)(void *arg) = s->closed;
    void *arg = s->closed_arg;

    s->ops->free(s);
    mem_free(s->dir);
    mem_free(s);
    closed(arg);
}

static void deliver(struct store *s) {
    struct store_result result = s->result;

    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
    s->busy = s->finished = s->cancelled = s->probing = s->removing = false;
    result.url = s->url;
    result.error = s->error;
    (void)uv_timer_stop(&s->timer); /* never fails */
    s->done(s->arg, &result);
}

static void on_timer(uv_timer_t *timer) {
    struct store *s = container_of(timer, struct store, timer);

    if (s->busy && s->sent != s->told && s->progress != NULL && !s->cancelled) {
        s->told = s->sent;
        s->progress(s->arg, s->told);
    }
    if (s->finished)
        deliver(s);
    if (s->closing && !s->busy && !uv_is_closing((uv_handle_t *)timer))
        uv_close((uv_handle_t *)timer, on_closed);
}

void store_finish(struct store *s, int rc, enum answer answer, int64_t retry_after_ms,
                  const char *fmt, ...) {
    va_list ap;

    if (s->cancelled)
        rc = -ECANCELED;
    if (rc == 0 && s->probing && !s->removing && s->ops->remove != NULL) {
        s->removing = true;
        s->ops->remove(s);
        return;
    }
    s->result = (struct store_result){.rc = rc, .answer = answer, .retry_after_ms = retry_after_ms};
    va_start(ap, fmt);
    (void)vsnprintf(s->error, sizeof(s->error), rc == -ECANCELED ? "cancelled" : fmt, ap);
    va_end(ap);
    s->finished = true;
    (void)uv_timer_start(&s->timer, on_timer, 0, 0); /* the handle is open */
}

static bool is_safe_key(const char *key) {
    const char *p = key;

    if (*key == '\0' || strlen(key) >= STORE_KEY_BYTES)
        return false;
    for (;;) {
        size_t n = strcspn(p, "/");

        /* Neither empty, nor ".", "..", nor hidden. */
        if (n == 0 || p[0] == '.' || n >= STORE_NAME_BYTES - 32)
            return false;
        for (size_t i = 0; i < n; i++)
            if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-=@+,",
                       p[i]) == NULL)
                return false;
        if (p[n] == '\0')
            return true;
        p += n + 1;
    }
}

static int begin(struct store *s, const struct store_file *f) {
    if (s->closing)
        return -ESHUTDOWN;
    if (s->busy)
        return -EBUSY;
    if (!is_safe_key(f->key) || strlen(f->sha256) != 64 || strlen(f->name) >= sizeof(s->local))
        return -EINVAL;
    (void)text_copy(s->local, sizeof(s->local), f->name);
    (void)text_copy(s->key, sizeof(s->key), f->key);
    (void)text_copy(s->sha256, sizeof(s->sha256), f->sha256);
    (void)text_copy(s->content_type, sizeof(s->content_type),
                    f->content_type != NULL ? f->content_type : "application/octet-stream");
    s->dirfd = f->dirfd;
    s->bytes = f->bytes;
    s->sent = s->told = 0;
    s->url[0] = s->error[0] = '\0';
    s->busy = true;
    return 0;
}

/* false: it has finished. */
static bool open_local(struct store *s) {
    struct stat st;

    s->fd = openat(s->dirfd, s->local, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (s->fd < 0 || fstat(s->fd, &st) != 0)
        store_finish(s, errno == ENOENT ? -ESTALE : -EAGAIN, ANSWER_RETRY, -1,
                     "the local file cannot be opened: %s", strerror(errno));
    else if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != s->bytes)
        store_finish(s, -ESTALE, ANSWER_RETRY, -1,
                     "the local file has %lld bytes, and not the %llu that it had when it was made",
                     (long long)st.st_size, (unsigned long long)s->bytes);
    else
        return true;
    return false;
}

int store_put(struct store *s, const struct store_file *file,
              void (*progress)(void *arg, uint64_t bytes), store_done_cb done, void *arg) {
    int rc = begin(s, file);

    if (rc != 0)
        return rc;
    s->progress = progress;
    s->done = done;
    s->arg = arg;
    (void)uv_timer_start(&s->timer, on_timer, TICK_MS, TICK_MS); /* the handle is open */
    if (s->ops->local || open_local(s))
        s->ops->start(s);
    return 0;
}

static int make_probe(void) {
    int fd = memfd_create("pillion-check", MFD_CLOEXEC);
    int rc = fd >= 0 ? fs_write_all(fd, PROBE_TEXT, strlen(PROBE_TEXT)) : -errno;

    if (rc != 0 && fd >= 0)
        close(fd);
    return rc == 0 ? fd : rc;
}

int store_probe(struct store *s, store_done_cb done, void *arg) {
    char key[64], sha256[HASH_HEX_BYTES];
    struct store_file f = {.dirfd = -1,
                           .name = "",
                           .key = key,
                           .content_type = "text/plain",
                           .bytes = strlen(PROBE_TEXT),
                           .sha256 = sha256};
    int fd = -1, rc;

    (void)snprintf(key, sizeof(key), "pillion-check-%08x.txt",
                   (unsigned)answer_random(0, UINT32_MAX));
    rc = hash_hex(PROBE_TEXT, strlen(PROBE_TEXT), sha256);
    if (rc == 0 && !s->ops->local)
        fd = rc = make_probe();
    if (rc < 0)
        return rc;
    rc = begin(s, &f);
    if (rc != 0) {
        if (fd >= 0)
            close(fd);
        return rc;
    }
    s->fd = fd;
    s->progress = NULL;
    s->done = done;
    s->arg = arg;
    s->probing = true;
    if (s->ops->local)
        s->ops->probe(s);
    else
        s->ops->start(s);
    return 0;
}

void store_cancel(struct store *s) {
    if (!s->busy || s->cancelled)
        return;
    s->cancelled = true;
    if (s->finished) {
        s->result.rc = -ECANCELED;
        (void)text_copy(s->error, sizeof(s->error), "cancelled");
    } else {
        s->ops->cancel(s);
    }
}

void store_forget(struct store *s, const char *key) {
    if (s->ops->forget != NULL && is_safe_key(key))
        s->ops->forget(s, key);
}

void store_close(struct store *s, void (*closed)(void *arg), void *arg) {
    if (s->closing)
        return;
    s->closing = true;
    s->closed = closed;
    s->closed_arg = arg;
    store_cancel(s);
    if (!s->busy)
        (void)uv_timer_start(&s->timer, on_timer, 0, 0); /* the handle is open */
}
