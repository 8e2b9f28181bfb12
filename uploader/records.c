#include "uploader/records.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <zlib.h>

#include "agent/base/buf.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define CHUNK_BYTES  16384
#define NUMBER_BYTES 64

struct records {
    z_stream z;
    bool inflating, ended;
    struct buf text;
    size_t at; /* in text: where the next line begins */
    struct records_head head;
};

static void *z_alloc(void *opaque, unsigned items, unsigned size) {
    (void)opaque;
    return mem_calloc(items, size);
}

static void z_free(void *opaque, void *p) {
    (void)opaque;
    mem_free(p);
}

/* More text behind what is there. */
static int fill(struct records *r) {
    int rc;

    if (r->at > 0) {
        memmove(r->text.data, r->text.data + r->at, r->text.len - r->at);
        r->text.len -= r->at;
        r->at = 0;
    }
    rc = buf_reserve(&r->text, CHUNK_BYTES);
    if (rc != 0)
        return rc == -ENOMEM ? -ENOMEM : -EBADMSG; /* a line beyond the limit */
    r->z.next_out = (unsigned char *)r->text.data + r->text.len;
    r->z.avail_out = CHUNK_BYTES;
    rc = inflate(&r->z, Z_NO_FLUSH);
    r->text.len += CHUNK_BYTES - r->z.avail_out;
    r->text.data[r->text.len] = '\0';
    if (rc == Z_STREAM_END)
        r->ended = true;
    else if (rc == Z_MEM_ERROR)
        return -ENOMEM;
    else if (rc != Z_OK || r->z.avail_out == CHUNK_BYTES)
        return -EBADMSG; /* damaged or cut */
    return 0;
}

int records_next(struct records *r, char **ret_line, size_t *ret_len) {
    size_t looked = 0;
    char *newline;
    int rc;

    for (;;) {
        size_t n = r->text.len - r->at;

        newline = n > looked ? memchr(r->text.data + r->at + looked, '\n', n - looked) : NULL;
        if (newline != NULL)
            break;
        if (r->ended)
            return n == 0 ? 0 : -EBADMSG;
        looked = n;
        rc = fill(r);
        if (rc != 0)
            return rc;
    }
    *newline = '\0';
    *ret_line = r->text.data + r->at;
    *ret_len = (size_t)(newline - *ret_line);
    r->at += *ret_len + 1;
    return 1;
}

/* NULL when it is not a string: then the first line is not ours. */
static char *copy_string(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));

    return s != NULL ? mem_strdup(s) : NULL;
}

static int read_head(struct records *r) {
    const char *boot;
    json_t *o = NULL;
    size_t len;
    char *line;
    int rc = records_next(r, &line, &len);

    if (rc != 1)
        return rc < 0 ? rc : -EBADMSG;
    if (len > LIMIT_FRAME_BYTES)
        return -EBADMSG;
    o = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
    boot = json_string_value(json_object_get(o, "boot"));
    rc = -EBADMSG;
    if (boot == NULL || !text_copy(r->head.boot, sizeof(r->head.boot), boot) ||
        !json_is_integer(json_object_get(o, "seq")))
        goto out;
    r->head.seq = (uint64_t)json_integer_value(json_object_get(o, "seq"));
    r->head.records = (uint32_t)json_integer_value(json_object_get(o, "records"));
    r->head.line = mem_memdup(line, len + 1);
    r->head.app = copy_string(o, "app");
    r->head.instance = copy_string(o, "instance");
    rc = r->head.line != NULL && r->head.app != NULL && r->head.instance != NULL ? 0 : -ENOMEM;
out:
    json_decref(o);
    return rc;
}

int records_open(struct records **ret, const struct batch *b) {
    struct records *r = mem_calloc(1, sizeof(*r));
    int rc;

    if (r == NULL)
        return -ENOMEM;
    buf_init(&r->text, LIMIT_RECORD_BYTES + 2 * CHUNK_BYTES);
    r->z.zalloc = z_alloc;
    r->z.zfree = z_free;
    r->z.next_in = (unsigned char *)(uintptr_t)b->data; /* zlib's type lacks the const */
    r->z.avail_in = (unsigned)b->len;
    r->inflating = inflateInit2(&r->z, 15 + 16) == Z_OK;
    rc = r->inflating ? read_head(r) : -ENOMEM;
    if (rc == 0)
        *ret = r;
    else
        records_close(r);
    return rc;
}

void records_close(struct records *r) {
    if (r == NULL)
        return;
    if (r->inflating)
        (void)inflateEnd(&r->z); /* frees */
    buf_clear(&r->text);
    mem_free(r->head.line);
    mem_free(r->head.app);
    mem_free(r->head.instance);
    mem_free(r);
}

const struct records_head *records_head(const struct records *r) {
    return &r->head;
}

void records_key(const struct records_head *head, char out[RECORDS_KEY_BYTES]) {
    (void)snprintf(out, RECORDS_KEY_BYTES, "%s-%" PRIu64, head->boot, head->seq);
}

/* --- members ------------------------------------------------------------------------------------ */

static const char *skip_space(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
        p++;
    return p;
}

/* Behind the closing quote; NULL when there is none. p is behind the opening one. */
static const char *skip_string(const char *p, const char *end) {
    for (; p < end; p++) {
        if (*p == '"')
            return p + 1;
        if (*p == '\\')
            p++;
    }
    return NULL;
}

/* p is at the opening bracket. */
static const char *skip_nested(const char *p, const char *end) {
    unsigned depth = 0;

    while (p < end) {
        char c = *p++;

        if (c == '"') {
            p = skip_string(p, end);
            if (p == NULL)
                return NULL;
        } else if (c == '{' || c == '[') {
            depth++;
        } else if ((c == '}' || c == ']') && --depth == 0) {
            return p;
        }
    }
    return NULL;
}

static const char *skip_value(const char *p, const char *end) {
    const char *start = p;

    if (p < end && *p == '"')
        return skip_string(p + 1, end);
    if (p < end && (*p == '{' || *p == '['))
        return skip_nested(p, end);
    while (p < end && strchr(",}] \t\r\n\":[{", *p) == NULL)
        p++;
    return p > start ? p : NULL;
}

int member_next(const char *text, size_t len, const char **p, struct member *ret) {
    const char *end = text + len, *at = *p, *close;

    if (at == NULL) {
        at = skip_space(text, end);
        if (at == end || *at != '{')
            return -EBADMSG;
        at = skip_space(at + 1, end);
        if (at < end && *at == '}')
            return 0;
    } else {
        at = skip_space(at, end);
        if (at < end && *at == '}')
            return 0;
        if (at == end || *at != ',')
            return -EBADMSG;
        at = skip_space(at + 1, end);
    }
    if (at == end || *at != '"')
        return -EBADMSG;
    ret->key = at + 1;
    close = skip_string(at + 1, end);
    if (close == NULL)
        return -EBADMSG;
    ret->key_len = (size_t)(close - 1 - ret->key);
    at = skip_space(close, end);
    if (at == end || *at != ':')
        return -EBADMSG;
    ret->value = skip_space(at + 1, end);
    at = skip_value(ret->value, end);
    if (at == NULL)
        return -EBADMSG;
    *p = at;
    ret->value_len = (size_t)(at - ret->value);
    return 1;
}

bool member_number(const struct member *m, double *ret) {
    char text[NUMBER_BYTES], *end;
    double v;

    if (m->value_len >= sizeof(text) || (*m->value != '-' && !isdigit((unsigned char)*m->value)))
        return false;
    memcpy(text, m->value, m->value_len);
    text[m->value_len] = '\0';
    v = strtod(text, &end);
    if (end != text + m->value_len)
        return false;
    *ret = v;
    return true;
}

bool member_text(const struct member *m, char *out, size_t size) {
    json_t *s;
    bool good;

    if (m->value_len < 2 || m->value[0] != '"')
        return false;
    if (memchr(m->value, '\\', m->value_len) == NULL) {
        size_t n = m->value_len - 2;

        (void)text_copy(out, n < size ? n + 1 : size, m->value + 1);
        return true;
    }
    s = json_loadb(m->value, m->value_len, JSON_DECODE_ANY, NULL);
    good = json_is_string(s);
    if (good)
        (void)text_copy(out, size, json_string_value(s)); /* cut is fine */
    json_decref(s);
    return good;
}

bool member_is(const struct member *m, const char *key) {
    return strlen(key) == m->key_len && memcmp(m->key, key, m->key_len) == 0;
}
