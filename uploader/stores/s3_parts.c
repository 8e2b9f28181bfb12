/* An upload in parts.
 *
 *     s3_upload: the state names one → ListParts, page by page → next part
 *                else → clean (abort what is left of this key) → CreateMultipartUpload → state → next part
 *     next part: hash (worker thread) → UploadPart → … → CompleteMultipartUpload → HEAD → finish
 *     there is no such upload → HEAD: complete already, its answer was lost; else anew
 *     given up for good → AbortMultipartUpload → the reason is told
 *
 * What the other side has of an upload is asked of it, never taken from our own notes. */
#include <errno.h>
#include <sys/stat.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/stores/s3.h"

#define PART_STEP_BYTES (1u << 20)
#define COMPLETE_MS     (15u * 60 * 1000) /* S3 sends white space for minutes while it works */
#define FORGOTTEN_MOST  8u

static void next_part(struct s3 *s);
static void create(struct s3 *s);

static struct store *base(struct s3 *s) {
    return &s->web.base;
}

void s3_upload_clear(struct s3 *s) {
    mem_free(s->up.etags);
    buf_clear(&s->up.body);
    memset(&s->up, 0, sizeof(s->up));
}

static uint64_t part_length(const struct s3 *s, uint32_t i) {
    uint64_t from = (uint64_t)i * s->up.part_bytes, left = s->web.base.bytes - from;

    return left < s->up.part_bytes ? left : s->up.part_bytes;
}

/* Query of this upload; `first` sorts before it and ends in '&'. Fits: three times the longest identity. */
static const char *upload_query(struct s3 *s, const char *first, const char *id) {
    (void)snprintf(s->query, sizeof(s->query), "%suploadId=", first);
    (void)sigv4_encode(s->query, sizeof(s->query), id, false);
    return s->query;
}

/* --- given up ----------------------------------------------------------------------------------- */

static void on_aborted(struct s3 *s, const struct http_reply *reply) {
    const struct store_result *c = &s->up.cause;

    if (s3_ok(reply) || s3_meaning(s, reply) == S3_GONE)
        s3_state_drop(s);
    else /* the next file's upload begins with this one's end */
        s3_state_forget(s, base(s)->key);
    store_finish(base(s), c->rc, c->answer, c->retry_after_ms, "%s", s->up.why);
}

/* The store has been finished; when that is for good the parts go before it is told. */
static void maybe_abort(struct s3 *s) {
    struct store *b = base(s);

    if (!b->finished || b->cancelled || b->result.rc == -EAGAIN || s->up.id[0] == '\0')
        return;
    s->up.cause = b->result;
    (void)text_copy(s->up.why, sizeof(s->up.why), b->error);
    b->finished = false;
    s3_ask(s, &(struct s3_request){.method = "DELETE", .query = upload_query(s, "", s->up.id)},
           on_aborted);
}

static void fail(struct s3 *s, const char *what, const struct http_reply *reply) {
    enum s3_meaning m = s3_meaning(s, reply);

    if (m == S3_GONE || m == S3_ANEW)
        s3_state_drop(s); /* the next attempt begins anew, and aborts what is left of this one */
    s3_fail(s, what, reply);
    maybe_abort(s);
}

/* --- Complete ----------------------------------------------------------------------------------- */

static void on_complete(struct s3 *s, const struct http_reply *reply) {
    buf_clear(&s->up.body);
    if (s3_ok(reply) && s3_answer_is(&s->answer, "CompleteMultipartUploadResult"))
        s3_head(s, s3_on_final_head);
    else if (s3_meaning(s, reply) == S3_GONE)
        s3_head(s, s3_on_final_head); /* an earlier one was heard after all */
    else if (s3_ok(reply) && s->answer.code[0] == '\0')
        store_finish(base(s), -EAGAIN, ANSWER_RETRY, -1,
                     "CompleteMultipartUpload: its answer is not whole");
    else
        fail(s, "CompleteMultipartUpload", reply);
}

/* -ESTALE: somebody has written to it while it was read. */
static int look_unchanged(struct s3 *s) {
    struct stat st;

    return fstat(base(s)->fd, &st) == 0 && (uint64_t)st.st_size == base(s)->bytes &&
                   st.st_mtim.tv_sec == s->up.mtime.tv_sec &&
                   st.st_mtim.tv_nsec == s->up.mtime.tv_nsec
               ? 0
               : -ESTALE;
}

static void complete(struct s3 *s) {
    struct buf *b = &s->up.body;
    int rc;

    if (look_unchanged(s) != 0) {
        store_finish(base(s), -ESTALE, ANSWER_RETRY, -1,
                     "the local file was changed while it was sent");
        maybe_abort(s);
        return;
    }
    buf_init(b, (size_t)s->up.n * (2 * S3_ETAG_BYTES + 80) + 200);
    buf_puts(b, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (uint32_t i = 0; i < s->up.n; i++)
        buf_printf(b, "<Part><PartNumber>%u</PartNumber><ETag>%s</ETag></Part>", i + 1,
                   s->up.etags[i]);
    buf_puts(b, "</CompleteMultipartUpload>");
    rc = b->err != 0 ? b->err : hash_hex(b->data, b->len, s->up.hash);
    if (rc != 0) {
        store_finish(base(s), -EAGAIN, ANSWER_RETRY, -1, "CompleteMultipartUpload: %s",
                     strerror(-rc));
        return;
    }
    s3_ask(s,
           &(struct s3_request){.method = "POST",
                                .query = upload_query(s, "", s->up.id),
                                .payload = s->up.hash,
                                .body = b->data,
                                .body_len = b->len,
                                .total_ms = COMPLETE_MS,
                                .stall_ms = COMPLETE_MS + 1},
           on_complete);
}

/* --- one part after the other ------------------------------------------------------------------- */

/* An ETag goes back inside a document: what would break that is none. */
static bool keep_etag(struct s3 *s, uint32_t i, const char *etag) {
    if (etag[0] == '\0' || strpbrk(etag, "<>&") != NULL)
        return false;
    return text_copy(s->up.etags[i], S3_ETAG_BYTES, etag);
}

static void on_part_sent(struct s3 *s, const struct http_reply *reply) {
    char etag[S3_ETAG_BYTES];

    if (!s3_ok(reply)) {
        fail(s, "UploadPart", reply);
        return;
    }
    if (!http_reply_header(reply, "etag", etag, sizeof(etag)) || !keep_etag(s, s->up.next, etag)) {
        store_finish(base(s), -EAGAIN, ANSWER_SETTLE, -1,
                     "UploadPart: its answer has no ETag: is this S3?");
        return;
    }
    next_part(s);
}

static void send_part(struct s3 *s) {
    uint32_t i = s->up.next;
    char first[40];

    s->web.before = 0;
    for (uint32_t k = 0; k < s->up.n; k++)
        s->web.before += s->up.etags[k][0] != '\0' ? part_length(s, k) : 0;
    (void)snprintf(first, sizeof(first), "partNumber=%u&", i + 1);
    s3_ask(s,
           &(struct s3_request){.method = "PUT",
                                .query = upload_query(s, first, s->up.id),
                                .payload = s->up.hash,
                                .has_file = true,
                                .file = {.fd = base(s)->fd,
                                         .offset = (uint64_t)i * s->up.part_bytes,
                                         .length = part_length(s, i)}},
           on_part_sent);
}

static void work_hash(uv_work_t *work) {
    struct s3 *s = container_of(work, struct s3, work);

    s->up.rc = hash_file(base(s)->fd, (uint64_t)s->up.next * s->up.part_bytes,
                         part_length(s, s->up.next), -1, s->up.hash);
}

static void on_hashed(uv_work_t *work, int status) {
    struct s3 *s = container_of(work, struct s3, work);

    if (status != 0 || base(s)->cancelled) {
        store_finish(base(s), -ECANCELED, ANSWER_RETRY, -1, "cancelled");
    } else if (s->up.rc != 0) {
        store_finish(base(s), s->up.rc == -ENODATA ? -ESTALE : -EAGAIN, ANSWER_RETRY, -1,
                     "the local file cannot be read to its end: %s", strerror(-s->up.rc));
        maybe_abort(s);
    } else {
        send_part(s);
    }
}

static void next_part(struct s3 *s) {
    int rc;

    s->up.next = 0;
    while (s->up.next < s->up.n && s->up.etags[s->up.next][0] != '\0')
        s->up.next++;
    if (s->up.next == s->up.n) {
        complete(s);
        return;
    }
    rc = uv_queue_work(base(s)->loop, &s->work, work_hash, on_hashed);
    if (rc != 0)
        store_finish(base(s), -EAGAIN, ANSWER_RETRY, -1, "no worker thread: %s", strerror(-rc));
}

/* --- an upload of before ------------------------------------------------------------------------ */

static void on_listed_part(void *arg, const struct s3_part *part) {
    struct s3 *s = arg;

    if (part->number <= s->up.n && part->size >= 0 &&
        (uint64_t)part->size == part_length(s, part->number - 1))
        (void)keep_etag(s, part->number - 1, part->etag);
}

static void on_head_of_gone(struct s3 *s, const struct http_reply *reply) {
    char why[128];

    if (s3_ok(reply) && s3_is_ours(s, reply, why, sizeof(why))) {
        s3_on_final_head(s, reply);
    } else if (reply->rc != 0 || (reply->status != 404 && !s3_ok(reply))) {
        s3_fail(s, "HEAD", reply);
    } else {
        s->up.id[0] = '\0';
        s3_state_drop(s);
        create(s);
    }
}

static void list_parts(struct s3 *s);

static void on_listed(struct s3 *s, const struct http_reply *reply) {
    if (s3_meaning(s, reply) == S3_GONE || (reply->rc == 0 && reply->status == 404)) {
        s3_head(s, on_head_of_gone);
    } else if (!s3_ok(reply)) {
        fail(s, "ListParts", reply);
    } else if (!s3_answer_is(&s->answer, "ListPartsResult")) {
        store_finish(base(s), -EAGAIN, ANSWER_RETRY, -1, "ListParts: its answer is not whole");
    } else if (s->answer.truncated && s->answer.next_marker > s->up.marker) {
        s->up.marker = s->answer.next_marker;
        list_parts(s);
    } else {
        next_part(s);
    }
}

static void list_parts(struct s3 *s) {
    char first[80];

    (void)snprintf(first, sizeof(first), "max-parts=1000&part-number-marker=%u&", s->up.marker);
    s3_ask(s,
           &(struct s3_request){.method = "GET",
                                .query = upload_query(s, first, s->up.id),
                                .on_part = on_listed_part},
           on_listed);
}

/* --- a new one ---------------------------------------------------------------------------------- */

static void on_created(struct s3 *s, const struct http_reply *reply) {
    if (!s3_ok(reply)) {
        fail(s, "CreateMultipartUpload", reply);
    } else if (!s3_answer_is(&s->answer, "InitiateMultipartUploadResult") ||
               s->answer.upload[0] == '\0') {
        store_finish(base(s), -EAGAIN, ANSWER_RETRY, -1,
                     "CreateMultipartUpload: its answer is not whole");
    } else {
        memcpy(s->up.id, s->answer.upload, sizeof(s->up.id));
        s3_state_save(s);
        next_part(s);
    }
}

static void create_now(struct s3 *s) {
    s3_ask(s,
           &(struct s3_request){
               .method = "POST", .query = "uploads=", .describes = true, .body = "", .body_len = 0},
           on_created);
}

/* --- what earlier uploads have left ------------------------------------------------------------- */

static void on_old_aborted(struct s3 *s, const struct http_reply *reply);

/* One after the other out of up.body, which holds their identities, each with its NUL. */
static void abort_next(struct s3 *s) {
    struct buf *ids = &s->up.body;
    size_t n = ids->len > 0 ? strlen(ids->data) + 1 : 0;
    char id[S3_UPLOAD_BYTES];

    if (n == 0) {
        buf_clear(ids);
        s->cleaned(s);
        return;
    }
    (void)text_copy(id, sizeof(id), ids->data);
    memmove(ids->data, ids->data + n, ids->len - n);
    ids->len -= n;
    s3_ask(s, &(struct s3_request){.method = "DELETE", .query = upload_query(s, "", id)},
           on_old_aborted);
}

static void on_old_aborted(struct s3 *s, const struct http_reply *reply) {
    (void)reply; /* it costs somebody money, and is tried again with the next file of this key */
    abort_next(s);
}

static void on_uploads(struct s3 *s, const struct http_reply *reply) {
    struct buf *ids = &s->up.body;

    if (reply->rc != 0) { /* nobody is there */
        fail(s, "ListMultipartUploads", reply);
        return;
    }
    /* A store or a policy that does not let us look: then they stay. */
    buf_clear(ids);
    buf_init(ids, S3_UPLOADS * S3_UPLOAD_BYTES);
    for (unsigned i = 0; s3_ok(reply) && i < s->answer.n_uploads; i++)
        buf_add(ids, s->answer.uploads[i], strlen(s->answer.uploads[i]) + 1);
    abort_next(s);
}

/* Aborts all uploads of s->key, then goes on with `cleaned`. */
static void abort_uploads(struct s3 *s, void (*cleaned)(struct s3 *s)) {
    static const char last[] = "&uploads=";

    s->cleaned = cleaned;
    (void)text_copy(s->query, sizeof(s->query), "prefix=");
    (void)sigv4_encode(s->query, sizeof(s->query) - sizeof(last), s->key, false);
    memcpy(s->query + strlen(s->query), last, sizeof(last));
    s3_ask(s,
           &(struct s3_request){
               .method = "GET", .path = s->bucket_path, .query = s->query, .list_key = s->key},
           on_uploads);
}

static void create(struct s3 *s) {
    abort_uploads(s, create_now);
}

static void clean_next(struct s3 *s);

static void on_forgotten_gone(struct s3 *s) {
    s3_state_forgotten_done(s);
    clean_next(s);
}

static void clean_next(struct s3 *s) {
    if (s->to_clean == 0 || !s3_state_forgotten(s)) {
        s->after_clean(s);
        return;
    }
    s->to_clean--;
    s3_set_key(s, s->forgotten);
    abort_uploads(s, on_forgotten_gone);
}

void s3_clean(struct s3 *s, void (*then)(struct s3 *s)) {
    s->after_clean = then;
    s->to_clean = FORGOTTEN_MOST;
    clean_next(s);
}

/* --- the beginning ------------------------------------------------------------------------------ */

void s3_upload(struct s3 *s) {
    uint64_t bytes = base(s)->bytes, least = (bytes + S3_PARTS - 1) / S3_PARTS;
    struct stat st;

    s3_upload_clear(s);
    s->up.part_bytes = S3_PART_BYTES;
    if (least > S3_PART_BYTES)
        s->up.part_bytes = (least + PART_STEP_BYTES - 1) / PART_STEP_BYTES * PART_STEP_BYTES;
    s->up.n = (uint32_t)((bytes + s->up.part_bytes - 1) / s->up.part_bytes);
    s->up.etags = mem_calloc(s->up.n, sizeof(*s->up.etags));
    if (s->up.etags == NULL || fstat(base(s)->fd, &st) != 0) {
        store_finish(base(s), -EAGAIN, ANSWER_RETRY, -1, "no memory for %u parts", s->up.n);
        return;
    }
    s->up.mtime = st.st_mtim;
    if (s3_state_load(s))
        list_parts(s);
    else
        create(s);
}
