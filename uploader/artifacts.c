/* A file goes well: artifacts_add → (synced) → turn → store_put … on_put → url into its .json → stored() → announce() → outgoing_remove_files.
 * The store cannot now: on_put → later() → on_timer → turn, with another file first if there is one.
 * The store never will: on_put → park. The helper is killed anywhere: artifacts_start finds the .json, and goes on from what it says.
 *
 * The .json is there before the .bin, and is removed after it: a .bin alone is nobody's. */
#include "uploader/artifacts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/fs.h"
#include "agent/base/limits.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/artifacts_impl.h"

#define ROUND_EACH_MS 600000
#define MESSAGE_BYTES 8192
#define LOG_EACH_MS   60000

static void turn(struct artifacts *a);
static void maybe_closed(struct artifacts *a);
static void on_round(uv_timer_t *timer);

/* --- retention ---------------------------------------------------------------------------------- */

static void on_retained(uv_work_t *work, int status) {
    struct artifacts *a = container_of(work, struct artifacts, retention_work);

    (void)status;
    a->retaining = false;
    counter_add(COUNTER_ARTIFACT_FILES_REMOVED, a->retention.removed);
    if (a->retention.removed > 0)
        log_info("artifacts: %llu of the oldest files of %s removed (PILLION_KEEP)",
                 (unsigned long long)a->retention.removed, store_dir(a->env.store));
    if (a->closing)
        maybe_closed(a);
    else if (a->retain_again)
        (void)uv_timer_start(&a->rounds, on_round, 0, ROUND_EACH_MS);
}

static void work_retain(uv_work_t *work) {
    struct artifacts *a = container_of(work, struct artifacts, retention_work);

    /* Not there yet is fine; what cannot be removed is tried again. */
    a->retention_rc = retention_apply(store_dir(a->env.store), &a->retention);
}

static void on_round(uv_timer_t *timer) {
    struct artifacts *a = container_of(timer, struct artifacts, rounds);

    outgoing_make_room(a);
    if (!store_is_local(a->env.store))
        return;
    a->retain_again = a->retaining;
    if (a->retaining)
        return;
    a->retention = (struct retention){
        .keep_bytes = a->env.keep_bytes, .keep_ms = a->env.keep_ms, .now_ms = clock_wall_ms()};
    a->retaining = uv_queue_work(a->env.loop, &a->retention_work, work_retain, on_retained) == 0;
}

/* --- delivery ----------------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer) {
    struct artifacts *a = container_of(timer, struct artifacts, timer);

    a->waiting = false;
    turn(a);
}

/* It was not done; others first next time. */
static void later(struct artifacts *a, enum answer answer, int64_t retry_after_ms,
                  const char *error) {
    uint64_t wait = answer_wait_ms(answer, ++a->failures, retry_after_ms);

    counter_add(COUNTER_ARTIFACT_ATTEMPTS_FAILED, 1);
    (void)text_copy(a->last_error, sizeof(a->last_error), error);
    if (log_due(&a->said_failure, LOG_EACH_MS))
        log_warn("store %s: %s; %u artifacts wait, next attempt in %llu ms",
                 store_name(a->env.store), error, a->n - a->n_parked, (unsigned long long)wait);
    if (a->now != NULL)
        outgoing_to_the_end(a->now);
    a->now = NULL;
    artifact_meta_clear(&a->meta);
    a->waiting = true;
    (void)uv_timer_start(&a->timer, on_timer, wait, 0); /* the handle is open */
}

static void delivered(struct artifacts *a) {
    struct artifact_entry *e = a->now;

    outgoing_remove_files(e);
    a->now = NULL;
    a->failures = 0;
    artifact_meta_clear(&a->meta);
    outgoing_unlink(e);
    if (store_is_local(a->env.store))
        (void)uv_timer_start(&a->rounds, on_round, 0, ROUND_EACH_MS); /* the handle is open */
}

/* Verified at its final name: tell. */
static void announce(struct artifacts *a) {
    struct buf message;
    int rc = 0;

    buf_init(&message, MESSAGE_BYTES);
    if (a->env.announce != NULL) {
        artifact_message(&a->meta, &message);
        rc = message.err != 0 ? message.err
                              : a->env.announce(a->env.arg, a->now->id, message.data, message.len);
    }
    buf_clear(&message);
    if (rc != 0) {
        char why[96];

        (void)snprintf(why, sizeof(why), "the message cannot be kept: %s", strerror(-rc));
        later(a, ANSWER_RETRY, -1, why);
    } else {
        delivered(a);
    }
}

static void park(struct artifacts *a, int rc, const char *error) {
    struct artifact_entry *e = a->now;

    log_error("artifacts: %s of job %s will not be stored: %s", a->meta.a.kind, a->meta.a.job,
              error);
    (void)text_copy(a->last_error, sizeof(a->last_error), error);
    a->now = NULL;
    a->failures = 0;
    outgoing_say_stored(a, e, &a->meta, error);
    if (rc == -ESTALE) { /* there is nothing to be kept */
        counter_add(COUNTER_ARTIFACTS_DROPPED, 1);
        outgoing_remove_files(e);
        outgoing_unlink(e);
    } else {
        counter_add(COUNTER_ARTIFACTS_PARKED, 1);
        a->meta.parked = mem_strdup(error);
        if (a->meta.parked != NULL)
            (void)artifact_meta_save(&a->meta, a->dirfd, e->id); /* else it is tried once more */
        e->parked = true;
        a->n_parked++;
    }
    artifact_meta_clear(&a->meta);
    outgoing_make_room(a);
}

static void on_put(void *arg, const struct store_result *result) {
    struct artifacts *a = arg;

    if (result->rc == -ECANCELED) {
        a->now = NULL;
        artifact_meta_clear(&a->meta);
    } else if (result->rc == -EAGAIN) {
        later(a, result->answer, result->retry_after_ms, result->error);
    } else if (result->rc != 0) {
        park(a, result->rc, result->error);
    } else if ((a->meta.url = mem_strdup(result->url)) == NULL) {
        later(a, ANSWER_RETRY, -1, "out of memory");
    } else {
        a->stored++;
        a->last_success_ms = clock_wall_ms();
        counter_add(COUNTER_ARTIFACTS_STORED, 1);
        /* Without it a kill before the announcement costs a second upload. */
        (void)artifact_meta_save(&a->meta, a->dirfd, a->now->id);
        outgoing_say_stored(a, a->now, &a->meta, NULL);
        announce(a);
    }
    if (a->closing)
        maybe_closed(a);
    else
        turn(a);
}

static void on_progress(void *arg, uint64_t bytes) {
    struct artifacts *a = arg;

    a->sent = bytes;
}

static int put(struct artifacts *a) {
    char key[ARTIFACT_KEY_BYTES], name[OUTGOING_NAME_BYTES];
    const struct store_file file = {.dirfd = a->dirfd,
                                    .name = name,
                                    .key = key,
                                    .content_type = artifact_type(a->meta.a.extension),
                                    .bytes = a->meta.a.bytes,
                                    .sha256 = a->meta.a.sha256};
    int rc = artifact_key(&a->meta.a, key, sizeof(key));

    outgoing_name(a->now, ".bin", name);
    a->sent = 0;
    return rc == 0 ? store_put(a->env.store, &file, on_progress, on_put, a) : rc;
}

static struct artifact_entry *first_ready(const struct artifacts *a) {
    struct artifact_entry *e = a->first;

    while (e != NULL && (e->parked || e->syncing))
        e = e->next;
    return e;
}

/* Begins with the next one, when nothing is under way. */
static void turn(struct artifacts *a) {
    while (a->started && !a->closing && a->now == NULL && !a->waiting) {
        struct artifact_entry *e = first_ready(a);
        int rc;

        if (e == NULL)
            return;
        rc = artifact_meta_load(&a->meta, a->dirfd, e->id);
        if (rc == -EBADMSG || rc == -ENOENT) { /* somebody has been at it */
            log_warn("artifacts: %s/%s.json cannot be read any more; it is left as it is", a->dir,
                     e->id);
            outgoing_unlink(e);
            continue;
        }
        a->now = e;
        if (rc == 0 && a->meta.url != NULL) {
            announce(a);
            continue;
        }
        rc = rc == 0 ? put(a) : rc;
        if (rc == -EINVAL || rc == -ENAMETOOLONG)
            park(a, rc, "its name makes no key");
        else if (rc != 0)
            later(a, ANSWER_RETRY, -1, strerror(-rc));
    }
}

/* --- new ones ----------------------------------------------------------------------------------- */

static void sync_one(int dirfd, const char *name) {
    int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return;
    (void)fsync(fd); /* what a loss of power may take is said in the header */
    close(fd);
}

static void work_sync(uv_work_t *work) {
    struct artifact_entry *e = container_of(work, struct artifact_entry, sync);
    char name[OUTGOING_NAME_BYTES];

    outgoing_name(e, ".bin", name);
    sync_one(e->owner->dirfd, name);
    outgoing_name(e, ".json", name);
    sync_one(e->owner->dirfd, name);
    (void)fsync(e->owner->dirfd);
}

static void on_synced(uv_work_t *work, int status) {
    struct artifact_entry *e = container_of(work, struct artifact_entry, sync);
    struct artifacts *a = e->owner;

    (void)status;
    a->n_syncing--;
    e->syncing = false;
    if (e->gone)
        mem_free(e);
    if (a->closing)
        maybe_closed(a);
    else
        turn(a);
}

int artifacts_add(struct artifacts *a, const struct artifact *artifact, int dirfd, const char *name,
                  char ret_id[ARTIFACT_ID_BYTES]) {
    char id[ARTIFACT_ID_BYTES], bin[OUTGOING_NAME_BYTES];
    struct artifact_meta m;
    struct artifact_entry *e = NULL;
    int rc;

    if (a->closing || !a->started)
        return -ESHUTDOWN;
    if (a->n >= LIMIT_ARTIFACTS)
        return -ENOBUFS;
    rc = artifact_meta_init(&m, artifact);
    if (rc != 0)
        return rc;
    artifact_id(clock_wall_ms(), id);
    rc = artifact_meta_save(&m, a->dirfd, id);
    artifact_meta_clear(&m);
    if (rc != 0)
        return rc;
    e = outgoing_add(a, id, artifact->bytes, artifact->time_ms);
    if (e == NULL) {
        (void)snprintf(bin, sizeof(bin), "%s.json", id);
        (void)unlinkat(a->dirfd, bin, 0);
        return -ENOMEM;
    }
    outgoing_name(e, ".bin", bin);
    if (renameat(dirfd, name, a->dirfd, bin) != 0) {
        rc = -errno;
        outgoing_name(e, ".json", bin);
        (void)unlinkat(a->dirfd, bin, 0);
        outgoing_unlink(e);
        return rc;
    }
    if (ret_id != NULL)
        memcpy(ret_id, e->id, ARTIFACT_ID_BYTES);
    e->syncing = uv_queue_work(a->env.loop, &e->sync, work_sync, on_synced) == 0;
    a->n_syncing += e->syncing;
    /* The rest from the loop: callbacks never come from inside. */
    (void)uv_timer_start(&a->rounds, on_round, 0, ROUND_EACH_MS);
    if (!e->syncing && !a->waiting)
        (void)uv_timer_start(&a->timer, on_timer, 0, 0);
    return 0;
}

int artifacts_start(struct artifacts *a) {
    int rc = outgoing_scan(a);

    if (rc != 0)
        return rc;
    a->started = true;
    if (a->n > a->n_parked)
        log_info("artifacts: %u of an earlier run go on to %s", a->n - a->n_parked,
                 store_name(a->env.store));
    (void)uv_timer_start(&a->rounds, on_round, 0, ROUND_EACH_MS); /* the handle is open */
    (void)uv_timer_start(&a->timer, on_timer, 0, 0);
    return 0;
}

/* --- life --------------------------------------------------------------------------------------- */

static void artifacts_free(struct artifacts *a) {
    while (a->first != NULL)
        outgoing_unlink(a->first);
    if (a->dirfd >= 0)
        close(a->dirfd);
    mem_free(a->dir);
    mem_free(a);
}

int artifacts_new(struct artifacts **ret, const struct artifacts_env *env, struct buf *why) {
    char path[PATH_MAX], text[400] = "";
    struct artifacts *a = mem_calloc(1, sizeof(*a));
    int rc = -ENOMEM;

    if (a == NULL)
        return rc;
    a->env = *env;
    a->env.data_dir = NULL; /* not copied: only used here */
    a->dirfd = -1;
    (void)snprintf(path, sizeof(path), "%s/outgoing", env->data_dir);
    a->dir = mem_strdup(path);
    if (a->dir == NULL)
        goto out;
    a->dirfd = rc = fs_private_dir(path, 0700, text, sizeof(text));
    if (rc < 0) {
        buf_puts(why, text);
        goto out;
    }
    (void)uv_timer_init(env->loop, &a->timer); /* never fails */
    (void)uv_timer_init(env->loop, &a->rounds);
    a->handles = 2;
    *ret = a;
    return 0;
out:
    artifacts_free(a);
    return rc;
}

static void maybe_closed(struct artifacts *a) {
    void (*closed)(void *arg) = a->closed;
    void *arg = a->closed_arg;

    if (a->handles > 0 || a->now != NULL || a->n_syncing > 0 || a->retaining)
        return;
    artifacts_free(a);
    closed(arg);
}

static void on_handle_closed(uv_handle_t *handle) {
    struct artifacts *a = handle->data;

    a->handles--;
    maybe_closed(a);
}

void artifacts_close(struct artifacts *a, void (*closed)(void *arg), void *arg) {
    if (a->closing)
        return;
    a->closing = true;
    a->closed = closed;
    a->closed_arg = arg;
    if (a->now != NULL)
        store_cancel(a->env.store);
    a->timer.data = a->rounds.data = a;
    uv_close((uv_handle_t *)&a->timer, on_handle_closed);
    uv_close((uv_handle_t *)&a->rounds, on_handle_closed);
}

/* --- status ------------------------------------------------------------------------------------- */

static void write_sending(const struct artifacts *a, struct buf *out) {
    if (a->now == NULL) {
        buf_puts(out, "null");
        return;
    }
    buf_puts(out, "{\"job\":");
    buf_json_string(out, a->meta.a.job);
    buf_puts(out, ",\"kind\":");
    buf_json_string(out, a->meta.a.kind);
    buf_printf(out, ",\"bytes\":%llu,\"sent\":%llu}", (unsigned long long)a->meta.a.bytes,
               (unsigned long long)a->sent);
}

int artifacts_write_status(const struct artifacts *a, struct buf *out) {
    const char *state = a->failures > 0 ? "failing" : a->now != NULL ? "sending" : "ok";
    char time[CLOCK_ISO_BYTES];

    if (a->failures == 0 && a->now == NULL && a->n_syncing > 0)
        state = "waiting";
    buf_puts(out, "{\"store\":");
    buf_json_string(out, store_name(a->env.store));
    buf_printf(out,
               ",\"state\":\"%s\",\"backlog\":%u,\"backlog_bytes\":%llu,\"parked\":%u,"
               "\"stored\":%llu,\"sending\":",
               state, a->n - a->n_parked, (unsigned long long)a->bytes, a->n_parked,
               (unsigned long long)a->stored);
    write_sending(a, out);
    buf_puts(out, ",\"last_success\":");
    if (a->last_success_ms > 0) {
        clock_iso(a->last_success_ms, time);
        buf_json_string(out, time);
    } else {
        buf_puts(out, "null");
    }
    buf_puts(out, ",\"last_error\":");
    if (a->last_error[0] != '\0')
        buf_json_string(out, a->last_error);
    else
        buf_puts(out, "null");
    buf_putc(out, '}');
    return out->err;
}
