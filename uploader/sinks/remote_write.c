/* What a remote sink does in a worker thread: from a batch to the body of a request, and to a parked file. */
#include <errno.h>

#include "agent/base/clock.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/park.h"
#include "uploader/sinks/remote.h"

#define BODY_MAX       (64u << 20)
#define REASONS_MAX    65536
#define PARK_NAME      160
#define CHUNK_ALLOCATE 64u

void remote_forget(struct remote *r) {
    r->key[0] = '\0';
    mem_free(r->state);
    r->state = NULL;
    buf_clear(&r->reasons);
}

static int start_batch(struct remote *r, const struct records_head *head, const char *key) {
    remote_forget(r);
    r->state = mem_calloc(head->records > 0 ? head->records : 1, 1);
    if (r->state == NULL)
        return -ENOMEM;
    (void)text_copy(r->key, sizeof(r->key), key);
    r->total = head->records;
    r->n_done = r->n_parked = r->n_left = r->to_park = 0;
    r->stage = 0;
    r->limit = r->ops->most_records > 0 ? r->ops->most_records : UINT32_MAX;
    buf_init(&r->reasons, REASONS_MAX);
    return 0;
}

static int chunk_add(struct remote *r, uint32_t record) {
    if (r->chunk_n == r->chunk_max) {
        uint32_t max = r->chunk_max == 0 ? CHUNK_ALLOCATE : r->chunk_max * 2;
        uint32_t *more = mem_realloc(r->chunk, max * sizeof(*more));

        if (more == NULL)
            return -ENOMEM;
        r->chunk = more;
        r->chunk_max = max;
    }
    r->chunk[r->chunk_n++] = record;
    return 0;
}

/* The reason that was noted last. */
static const char *last_reason(const struct remote *r) {
    const char *p = r->reasons.data, *end = p + r->reasons.len, *last = NULL;

    while (p != NULL && p < end) {
        last = p + sizeof(uint32_t);
        p = last + strlen(last) + 1;
    }
    return last;
}

void remote_mark(struct remote *r, uint32_t record, const char *reason) {
    const char *last = last_reason(r);

    if (r->state[record] == RECORD_PARK)
        return;
    r->state[record] = RECORD_PARK;
    r->to_park++;
    if ((last != NULL && strcmp(last, reason) == 0) ||
        r->reasons.len + sizeof(record) + strlen(reason) + 1 > REASONS_MAX)
        return; /* holds from there on; or is parked without it */
    buf_add(&r->reasons, &record, sizeof(record));
    buf_add(&r->reasons, reason, strlen(reason) + 1);
}

static int write_record(struct remote *r, const struct records_head *head, uint32_t i,
                        const char *text, size_t len) {
    int rc;

    if (r->chunk_n == 0 && r->body.raw == 0 && r->ops->begin != NULL)
        r->ops->begin(r, head, r->stage);
    rc = r->ops->add(r, head, r->stage, i + 1, text, len);
    if (rc == 1)
        return chunk_add(r, i);
    if (rc == -EBADMSG) {
        remote_mark(r, i, "the record cannot be read");
        rc = 0;
    }
    return rc != 0 ? rc : r->body.err;
}

/* The open records of this stage, as many as go into one request. */
static int write_stage(struct remote *r, struct records *records) {
    const struct records_head *head = records_head(records);
    size_t len;
    char *line;
    int rc = 0, more;

    for (uint32_t i = 0; rc == 0; i++) {
        more = records_next(records, &line, &len);
        if (more <= 0) {
            rc = more;
            break;
        }
        if (i >= r->total) {
            rc = -EBADMSG;
            break;
        }
        if (r->state[i] != RECORD_OPEN)
            continue;
        if (r->chunk_n >= r->limit || r->body.raw >= LIMIT_REQUEST_BYTES)
            break;
        rc = write_record(r, head, i, line, len);
    }
    if (rc == 0 && r->chunk_n > 0 && r->ops->end != NULL)
        r->ops->end(r, r->stage);
    return rc;
}

static bool goes_whole(const struct remote *r) {
    return r->ops->most_records == 0 && r->limit >= r->total && r->n_done == 0 && r->n_left == 0 &&
           r->to_park == 0;
}

/* A batch that is sent anew after some of it was left for later. */
void remote_reopen(struct remote *r) {
    if (r->n_left == 0)
        return;
    for (uint32_t i = 0; i < r->total; i++)
        if (r->state[i] == RECORD_LEFT)
            r->state[i] = RECORD_OPEN;
    r->n_left = 0;
    r->stage = 0;
}

static int write_chunk(struct remote *r, struct records *records) {
    int rc;

    r->whole = goes_whole(r);
    if (r->whole) {
        for (uint32_t i = 0; i < r->total; i++)
            if (chunk_add(r, i) != 0)
                return -ENOMEM;
        return 0;
    }
    body_begin(&r->body, BODY_MAX);
    rc = write_stage(r, records);
    return body_end(&r->body) != 0 ? r->body.err : rc;
}

void remote_work_write(uv_work_t *w) {
    struct remote *r = container_of(w, struct remote, work);
    struct records *records = NULL;
    char key[RECORDS_KEY_BYTES];

    r->chunk_n = 0;
    do {
        body_clear(&r->body);
        r->rc = records_open(&records, r->batch);
        if (r->rc != 0)
            break;
        records_key(records_head(records), key);
        if (strcmp(key, r->key) != 0)
            r->rc = start_batch(r, records_head(records), key);
        if (r->rc == 0)
            r->rc = write_chunk(r, records);
        records_close(records);
        records = NULL;
    } while (r->rc == 0 && r->chunk_n == 0 && ++r->stage < r->ops->stages);
}

/* --- parking, in a worker thread ---------------------------------------------------------------- */

/* Each holds for its record and those behind it, up to the next. */
static const char *reason_of(const struct remote *r, uint32_t record) {
    const char *p = r->reasons.data, *end = p + r->reasons.len;
    const char *reason = "the reason was not kept";
    uint32_t at, best = 0;

    while (p != NULL && p < end) {
        memcpy(&at, p, sizeof(at));
        p += sizeof(at);
        if (at <= record && at >= best) {
            best = at;
            reason = p;
        }
        p += strlen(p) + 1;
    }
    return reason;
}

static void put_reason(struct remote *r, struct body *out, const char *reason) {
    char when[CLOCK_ISO_BYTES];
    struct buf line;

    buf_init(&line, 4096);
    clock_iso(clock_wall_ms(), when);
    buf_printf(&line, "{\"parked\":1,\"time\":\"%s\",\"sink\":", when);
    buf_json_string(&line, r->base.name);
    buf_puts(&line, ",\"reason\":");
    buf_json_string(&line, reason);
    buf_puts(&line, "}\n");
    if (line.err != 0)
        out->err = line.err;
    else
        body_add(out, line.data, line.len);
    buf_clear(&line);
}

/* *ret_first: the first line that is in it. */
static int write_parked(struct remote *r, struct records *records, struct body *out,
                        uint32_t *ret_first) {
    const char *last = NULL;
    size_t len;
    char *line;
    int rc;

    body_add(out, records_head(records)->line, strlen(records_head(records)->line));
    body_add(out, "\n", 1);
    for (uint32_t i = 0; (rc = records_next(records, &line, &len)) == 1 && i < r->total; i++) {
        const char *reason;

        if (r->state[i] != RECORD_PARK)
            continue;
        reason = reason_of(r, i);
        if (last == NULL || strcmp(last, reason) != 0)
            put_reason(r, out, reason);
        last = reason;
        if (*ret_first == 0)
            *ret_first = i + 1;
        line[len] = '\n'; /* where it stood */
        body_add(out, line, len + 1);
    }
    return rc < 0 ? rc : out->err;
}

void remote_work_park(uv_work_t *w) {
    struct remote *r = container_of(w, struct remote, work);
    struct records *records = NULL;
    char name[PARK_NAME], why[REMOTE_ERROR_BYTES];
    struct body out;
    uint32_t first = 0;

    body_begin(&out, LIMIT_PARKED_BYTES);
    r->rc = records_open(&records, r->batch);
    if (r->rc == 0)
        r->rc = write_parked(r, records, &out, &first);
    if (body_end(&out) != 0)
        r->rc = out.err;
    if (r->rc == 0) {
        (void)snprintf(name, sizeof(name), "%013lld-%s-%u.ndjson.gz", (long long)clock_wall_ms(),
                       r->key, (unsigned)first);
        r->rc = park_put(r->data_dir, name, out.out.data, out.out.len, why, sizeof(why));
        if (r->rc != 0)
            (void)text_copy(r->error, sizeof(r->error), why);
    }
    records_close(records);
    body_clear(&out);
}
