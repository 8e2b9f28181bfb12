#include "uploader/stores/sigv4.h"

#include <ctype.h>
#include <errno.h>
#include <time.h>

#include "agent/base/mem.h"
#include "uploader/stores/hash.h"

#define CANONICAL_BYTES 65536
#define SECRET_BYTES    512

void sigv4_date(int64_t unix_s, char out[SIGV4_DATE_BYTES]) {
    time_t s = (time_t)unix_s;
    struct tm tm;

    (void)gmtime_r(&s, &tm);
    (void)snprintf(out, SIGV4_DATE_BYTES, "%04u%02u%02uT%02u%02u%02uZ",
                   (unsigned)(tm.tm_year + 1900) % 10000u, (unsigned)(tm.tm_mon + 1) % 100u,
                   (unsigned)tm.tm_mday % 100u, (unsigned)tm.tm_hour % 100u,
                   (unsigned)tm.tm_min % 100u, (unsigned)tm.tm_sec % 100u);
}

bool sigv4_encode(char *out, size_t size, const char *text, bool keep_slash) {
    size_t start = strlen(out), len = start;

    for (; *text != '\0' && len + 4 <= size; text++) {
        unsigned char c = (unsigned char)*text;

        if ((c < 0x80 && isalnum(c)) || strchr("-._~", c) != NULL || (keep_slash && c == '/'))
            out[len++] = (char)c;
        else
            len += (size_t)snprintf(out + len, 4, "%%%02X", c);
    }
    out[*text == '\0' ? len : start] = '\0';
    return *text == '\0';
}

static void sort(const struct sigv4_request *rq, const struct sigv4_header *ret[SIGV4_HEADERS]) {
    for (size_t i = 0; i < rq->n_headers; i++) {
        size_t at = i;

        for (; at > 0 && strcmp(rq->headers[i].name, ret[at - 1]->name) < 0; at--)
            ret[at] = ret[at - 1];
        ret[at] = &rq->headers[i];
    }
}

static void add_names(struct buf *out, const struct sigv4_header *const *h, size_t n) {
    for (size_t i = 0; i < n; i++)
        buf_printf(out, "%s%s", i > 0 ? ";" : "", h[i]->name);
}

/* Blanks around a value do not count, several inside count as one. */
static void add_value(struct buf *out, const char *v) {
    v += strspn(v, " \t");
    while (*v != '\0') {
        size_t n = strcspn(v, " \t"), blanks = strspn(v + n, " \t");

        buf_add(out, v, n);
        v += n + blanks;
        if (blanks > 0 && *v != '\0')
            buf_putc(out, ' ');
    }
}

static int canonical_hash(const struct sigv4_request *rq, const struct sigv4_header *const *h,
                          char ret[HASH_HEX_BYTES]) {
    struct buf text;
    int rc;

    buf_init(&text, CANONICAL_BYTES);
    buf_printf(&text, "%s\n%s\n%s\n", rq->method, rq->path, rq->query);
    for (size_t i = 0; i < rq->n_headers; i++) {
        buf_printf(&text, "%s:", h[i]->name);
        add_value(&text, h[i]->value);
        buf_putc(&text, '\n');
    }
    buf_putc(&text, '\n');
    add_names(&text, h, rq->n_headers);
    buf_printf(&text, "\n%s", rq->payload);
    rc = text.err != 0 ? text.err : hash_hex(text.data, text.len, ret);
    buf_clear(&text);
    return rc;
}

static int signing_key(const struct sigv4_key *key, const char *day,
                       unsigned char ret[HASH_BYTES]) {
    const char *const steps[] = {key->region, "s3", "aws4_request"};
    char first[SECRET_BYTES];
    int n = snprintf(first, sizeof(first), "AWS4%s", key->secret);
    int rc = n < (int)sizeof(first) ? 0 : -EINVAL;

    if (rc == 0)
        rc = hash_hmac(first, (size_t)n, day, strlen(day), ret);
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(steps); i++) {
        unsigned char last[HASH_BYTES];

        memcpy(last, ret, HASH_BYTES);
        rc = hash_hmac(last, HASH_BYTES, steps[i], strlen(steps[i]), ret);
    }
    explicit_bzero(first, sizeof(first));
    return rc;
}

int sigv4_sign(const struct sigv4_key *key, const struct sigv4_request *rq, struct buf *out) {
    const struct sigv4_header *h[SIGV4_HEADERS];
    char canonical[HASH_HEX_BYTES], signature[HASH_HEX_BYTES], scope[128], text[320], day[9];
    unsigned char secret[HASH_BYTES], mac[HASH_BYTES];
    int n, rc;

    if (rq->n_headers > SIGV4_HEADERS || strlen(rq->date) < 8)
        return -EINVAL;
    sort(rq, h);
    (void)snprintf(day, sizeof(day), "%.8s", rq->date);
    if (snprintf(scope, sizeof(scope), "%s/%s/s3/aws4_request", day, key->region) >=
        (int)sizeof(scope))
        return -EINVAL;
    rc = canonical_hash(rq, h, canonical);
    if (rc != 0)
        return rc;
    n = snprintf(text, sizeof(text), "AWS4-HMAC-SHA256\n%s\n%s\n%s", rq->date, scope, canonical);
    rc = signing_key(key, day, secret);
    if (rc == 0)
        rc = hash_hmac(secret, sizeof(secret), text, (size_t)n, mac);
    explicit_bzero(secret, sizeof(secret));
    if (rc != 0)
        return rc;
    hash_to_hex(mac, signature);
    buf_printf(out, "AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=", key->access, scope);
    add_names(out, h, rq->n_headers);
    buf_printf(out, ",Signature=%s", signature);
    return out->err;
}
