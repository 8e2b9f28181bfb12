/* All went well: notes_add -> work_fsync -> on_fsynced (kept, ready) … notes_read … notes_settle -> sync_disk -> work_sync -> on_synced.
 * Ways to fail: what cannot be written is the sender's to hear of, from notes_add; a rename or removal that fails is logged, and the message is sent a
 * second time after a restart, under the same id. */
#include "uploader/notify/notes.h"

#include <errno.h>
#include <sys/stat.h>

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "uploader/notify/note_file.h"
#include "uploader/notify/notes_private.h"

#define LOG_EVERY_MS 60000

/* --- the list ----------------------------------------------------------------------------------- */

void notes_insert(struct notes *s, struct note *n) {
    struct note *before = s->last;

    while (before != NULL && before->time_ms > n->time_ms)
        before = before->prev;
    n->owner = s;
    n->prev = before;
    n->next = before != NULL ? before->next : s->first;
    if (n->next != NULL)
        n->next->prev = n;
    else
        s->last = n;
    if (before != NULL)
        before->next = n;
    else
        s->first = n;
    if (n->time_ms > s->last_ms)
        s->last_ms = n->time_ms;
}

static void take_out(struct note *n) {
    struct notes *s = n->owner;

    if (n->prev != NULL)
        n->prev->next = n->next;
    else
        s->first = n->next;
    if (n->next != NULL)
        n->next->prev = n->prev;
    else
        s->last = n->prev;
}

struct note *notes_find(const struct notes *s, const char *id) {
    struct note *n = s->first;

    while (n != NULL && (n->needed == 0 || strcmp(n->id, id) != 0))
        n = n->next;
    return n;
}

void note_free(struct note *n) {
    if (n == NULL)
        return;
    while (n->receipts != NULL) {
        struct receipt *r = n->receipts;

        n->receipts = r->next;
        mem_free(r);
    }
    mem_free(n);
}

struct note *note_new(const char *id, int64_t time_ms, unsigned needed, size_t bytes) {
    struct note *n = mem_calloc(1, sizeof(*n) + strlen(id) + 1);

    if (n == NULL)
        return NULL;
    memcpy(n->id, id, strlen(id) + 1);
    n->time_ms = time_ms;
    n->needed = n->on_disk = needed;
    n->bytes = bytes;
    return n;
}

const char *notes_id(const struct note *n) {
    return n->id;
}

size_t notes_backlog(const struct notes *s, unsigned bit) {
    size_t count = 0;

    for (const struct note *n = s->first; n != NULL; n = n->next)
        count += (n->needed & bit) != 0;
    return count;
}

size_t notes_count(const struct notes *s) {
    return s->count;
}

/* No target needs it any more. */
static void finish(struct note *n) {
    if (n->needed == 0)
        return;
    n->needed = 0;
    n->owner->count--;
    n->owner->bytes -= n->bytes;
}

void notes_make_room(struct notes *s, size_t bytes) {
    for (struct note *n = s->first, *next; n != NULL; n = next) {
        next = n->next;
        if (s->count < LIMIT_NOTIFY_MESSAGES && s->bytes + bytes <= LIMIT_NOTIFY_QUEUE_BYTES)
            return;
        if (n->needed == 0)
            continue;
        counter_add(COUNTER_NOTIFY_DROPPED, 1);
        if (log_due(&s->last_drop_log, LOG_EVERY_MS))
            log_warn("notify: more than %d messages or %d MiB wait: the oldest (%s) is dropped",
                     LIMIT_NOTIFY_MESSAGES, LIMIT_NOTIFY_QUEUE_BYTES >> 20, n->id);
        finish(n);
        notes_sync(n);
    }
}

/* --- disk --------------------------------------------------------------------------------------- */

static void maybe_closed(struct notes *s);

static void work_sync(uv_work_t *work) {
    struct note *n = container_of(work, struct note, work);
    char from[NOTE_FILE_BYTES], to[NOTE_FILE_BYTES];

    note_file_name(from, n->time_ms, n->on_disk, n->id);
    note_file_name(to, n->time_ms, n->wanted, n->id);
    n->rc = n->wanted == 0 ? unlinkat(n->owner->dirfd, from, 0)
                           : renameat(n->owner->dirfd, from, n->owner->dirfd, to);
    if (n->rc != 0)
        n->rc = -errno;
}

static void on_synced(uv_work_t *work, int status) {
    struct note *n = container_of(work, struct note, work);
    struct notes *s = n->owner;
    (void)status; /* is never cancelled */

    n->busy = false;
    s->works--;
    if (n->rc != 0 && n->rc != -ENOENT && log_due(&s->last_disk_log, LOG_EVERY_MS))
        log_warn("notify: that %s was delivered cannot be noted on disk: %s; it will be sent again "
                 "after a restart",
                 n->id, strerror(-n->rc));
    n->on_disk = n->wanted; /* failed: not tried again and again */
    notes_sync(n);
    if (!s->closing)
        s->ready(s->arg);
    maybe_closed(s);
}

/* Brings the file's name in line with what is known. n may be gone afterwards. */
void notes_sync(struct note *n) {
    struct notes *s = n->owner;

    if (n->busy || n->readings > 0)
        return;
    if (n->needed == 0 && n->on_disk == 0 && n->holds == 0) {
        take_out(n);
        note_free(n);
        return;
    }
    if (n->needed == n->on_disk)
        return;
    n->wanted = n->needed;
    n->busy = true;
    s->works++;
    (void)uv_queue_work(s->loop, &n->work, work_sync,
                        on_synced); /* fails only without a function */
}

static void deliver(struct receipt **list, int rc) {
    while (*list != NULL) {
        struct receipt *r = *list;

        *list = r->next;
        r->kept(r->arg, r->known ? r->rc : rc);
        mem_free(r);
    }
}

static void work_fsync(uv_work_t *work) {
    struct note *n = container_of(work, struct note, work);
    char name[NOTE_FILE_BYTES];

    note_file_name(name, n->time_ms, n->on_disk, n->id);
    n->rc = note_file_sync(n->owner->dirfd, name);
}

/* Also when it failed the file is there, as far as this run of the system goes. */
static void on_fsynced(uv_work_t *work, int status) {
    struct note *n = container_of(work, struct note, work);
    struct notes *s = n->owner;
    struct receipt *receipts = n->receipts;
    int rc = n->rc;
    (void)status;

    n->receipts = NULL;
    n->busy = false;
    n->synced = true;
    notes_sync(n);
    /* What is told now may close everything: the work counts until then. */
    deliver(&receipts, rc);
    s->works--;
    if (!s->closing)
        s->ready(s->arg);
    maybe_closed(s);
}

/* --- adding ------------------------------------------------------------------------------------- */

static void on_later(uv_timer_t *t) {
    struct notes *s = container_of(t, struct notes, later);

    deliver(&s->receipts, 0);
}

static void add_receipt(struct receipt **list, struct receipt *r) {
    while (*list != NULL)
        list = &(*list)->next;
    if (r != NULL)
        *list = r;
}

/* It waits already. */
static void add_again(struct notes *s, struct note *n, struct receipt *r) {
    if (r == NULL)
        return;
    if (!n->synced) {
        add_receipt(&n->receipts, r);
        return;
    }
    r->known = true;
    add_receipt(&s->receipts, r);
    (void)uv_timer_start(&s->later, on_later, 0, 0); /* the handle is open */
}

static int new_note(struct note **ret, struct notes *s, const char *id, const char *json,
                    size_t len) {
    int64_t now = clock_wall_ms();
    char name[NOTE_FILE_BYTES];
    struct buf text;
    struct note *n = NULL;
    int rc;

    buf_init(&text, NOTE_HEAD_BYTES + LIMIT_NOTIFY_BYTES);
    note_file_head(&text, len, s->targets, s->n_targets);
    buf_add(&text, json, len);
    rc = text.err;
    if (rc == 0) {
        n = note_new(id, now > s->last_ms ? now : s->last_ms + 1, (1u << s->n_targets) - 1,
                     text.len);
        rc = n != NULL ? 0 : -ENOMEM;
    }
    if (rc == 0) {
        notes_make_room(s, text.len);
        note_file_name(name, n->time_ms, n->needed, id);
        rc = note_file_write(s->dirfd, name, text.data, text.len);
    }
    buf_clear(&text);
    if (rc != 0) {
        note_free(n);
        return rc;
    }
    *ret = n;
    return 0;
}

int notes_add(struct notes *s, const char *id, const char *json, size_t len, notify_kept_cb kept,
              void *arg) {
    struct receipt *r = NULL;
    struct note *n;
    int rc;

    if (s->closing)
        return -ESHUTDOWN;
    if (!note_id_good(id))
        return -EINVAL;
    if (len > LIMIT_NOTIFY_BYTES)
        return -EMSGSIZE;
    if (kept != NULL) {
        r = mem_calloc(1, sizeof(*r));
        if (r == NULL)
            return -ENOMEM;
        r->kept = kept;
        r->arg = arg;
    }
    n = notes_find(s, id);
    if (n != NULL) {
        add_again(s, n, r);
        return 0;
    }
    rc = new_note(&n, s, id, json, len);
    if (rc != 0) {
        mem_free(r);
        return rc;
    }
    n->receipts = r;
    notes_insert(s, n);
    s->count++;
    s->bytes += n->bytes;
    n->busy = true;
    s->works++;
    (void)uv_queue_work(s->loop, &n->work, work_fsync, on_fsynced); /* as above */
    return 0;
}

/* --- reading ------------------------------------------------------------------------------------ */

struct note *notes_next(struct notes *s, unsigned bit) {
    struct note *n = s->first;

    while (n != NULL && (n->needed & bit) == 0)
        n = n->next;
    return n != NULL && !n->busy && !s->closing ? n : NULL;
}

static void work_read(uv_work_t *work) {
    struct notes_reading *r = container_of(work, struct notes_reading, work);
    char name[NOTE_FILE_BYTES];
    const char *end;

    note_file_name(name, r->note->time_ms, r->note->on_disk, r->note->id);
    r->rc = note_file_read(r->note->owner->dirfd, name, &r->text, &r->len);
    if (r->rc != 0)
        return;
    end = strstr(r->text, "\n\n");
    if (end == NULL || r->len != r->note->bytes)
        r->rc = -EBADMSG;
    else
        r->body = (size_t)(end + 2 - r->text);
}

static void on_read(uv_work_t *work, int status) {
    struct notes_reading *r = container_of(work, struct notes_reading, work);
    struct notes *s = r->note->owner;
    (void)status;

    r->note->readings--;
    s->works--;
    r->len = r->rc == 0 ? r->len - r->body : 0;
    if ((r->rc == -EBADMSG || r->rc == -ENOENT) && r->note->needed != 0) {
        counter_add(COUNTER_NOTIFY_DAMAGED, 1);
        log_warn("notify: the message %s on disk %s: it is dropped", r->note->id,
                 r->rc == -ENOENT ? "is gone" : "is damaged");
        finish(r->note);
    }
    r->done(r);
    maybe_closed(s);
}

void notes_read(struct notes_reading *r, struct note *n, void (*done)(struct notes_reading *r)) {
    r->note = n;
    r->text = NULL;
    r->body = r->len = 0;
    r->done = done;
    n->readings++;
    n->holds++;
    n->owner->works++;
    (void)uv_queue_work(n->owner->loop, &r->work, work_read, on_read); /* as above */
}

void notes_settle(struct note *n, unsigned bit, bool over) {
    struct notes *s = n->owner;

    n->holds--;
    if (over && n->needed == bit)
        finish(n);
    else if (over)
        n->needed &= ~bit;
    notes_sync(n);
    if (!s->closing)
        s->ready(s->arg);
}

/* --- closing ------------------------------------------------------------------------------------ */

static void on_closed(uv_handle_t *h) {
    struct notes *s = container_of((uv_timer_t *)h, struct notes, later);
    void (*closed)(void *arg) = s->closed;
    void *arg = s->closed_arg;

    deliver(&s->receipts, 0);
    notes_free(s);
    closed(arg);
}

static void maybe_closed(struct notes *s) {
    if (s->closing && s->works == 0 && !uv_is_closing((uv_handle_t *)&s->later))
        uv_close((uv_handle_t *)&s->later, on_closed);
}

void notes_close(struct notes *s, void (*closed)(void *arg), void *arg) {
    s->closing = true;
    s->closed = closed;
    s->closed_arg = arg;
    maybe_closed(s);
}
