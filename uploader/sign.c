#include "uploader/sign.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdbool.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

#define MAC_BYTES    32
#define HEADER_BYTES 1024
#define DIGITS       15 /* of the time: what is longer is no time */
#define SIGNATURES   8  /* v1= that are compared */

struct signature {
    int64_t unix_s;
    unsigned n;
    unsigned char mac[SIGNATURES][MAC_BYTES];
};

/* --- making ------------------------------------------------------------------------------------- */

static bool update(EVP_MAC_CTX *ctx, const void *data, size_t len) {
    return len == 0 || EVP_MAC_update(ctx, data, len) == 1;
}

/* The body is not copied: it may be long. */
static int compute(unsigned char out[MAC_BYTES], const char *token, int64_t unix_s,
                   const char *method, const char *path, const void *body, size_t len) {
    char digest[] = "SHA256", head[64];
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                 OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *ctx = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;
    size_t n = 0;
    int rc = -EIO;

    if (mac != NULL && ctx == NULL)
        rc = -ENOMEM;
    if (ctx == NULL)
        goto out;
    (void)snprintf(head, sizeof(head), "%lld.", (long long)unix_s);
    if (EVP_MAC_init(ctx, (const unsigned char *)token, strlen(token), params) == 1 &&
        update(ctx, head, strlen(head)) && update(ctx, method, strlen(method)) &&
        update(ctx, ".", 1) && update(ctx, path, strlen(path)) && update(ctx, ".", 1) &&
        update(ctx, body, len) && EVP_MAC_final(ctx, out, &n, MAC_BYTES) == 1 && n == MAC_BYTES)
        rc = 0;
out:
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    return rc;
}

int sign_make(struct buf *out, const char *token, int64_t unix_s, const char *method,
              const char *path, const void *body, size_t len) {
    unsigned char mac[MAC_BYTES];
    int rc;

    /* An empty key is a signature that anybody can make. */
    if (token == NULL || token[0] == '\0')
        return -EINVAL;
    rc = compute(mac, token, unix_s, method, path, body, len);
    if (rc != 0)
        return rc;
    buf_printf(out, "t=%lld,v1=", (long long)unix_s);
    for (size_t i = 0; i < sizeof(mac); i++)
        buf_printf(out, "%02x", mac[i]);
    return out->err;
}

/* --- checking ----------------------------------------------------------------------------------- */

static int hex(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_time(struct signature *s, const char *p, size_t n) {
    int64_t t = 0;

    if (n == 0 || n > DIGITS || s->unix_s >= 0)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        t = t * 10 + (p[i] - '0');
    }
    s->unix_s = t;
    return true;
}

static bool take_mac(struct signature *s, const char *p, size_t n) {
    if (n != (size_t)2 * MAC_BYTES || s->n == SIGNATURES)
        return false;
    for (size_t i = 0; i < MAC_BYTES; i++) {
        int high = hex(p[2 * i]), low = hex(p[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        s->mac[s->n][i] = (unsigned char)(high * 16 + low);
    }
    s->n++;
    return true;
}

static bool parse(struct signature *s, const char *p) {
    size_t n;

    *s = (struct signature){.unix_s = -1};
    if (strlen(p) > HEADER_BYTES)
        return false;
    for (;; p++) {
        bool good = true;

        p += strspn(p, " \t");
        n = strcspn(p, ",");
        if (text_starts(p, "t="))
            good = take_time(s, p + 2, n - 2);
        else if (text_starts(p, "v1="))
            good = take_mac(s, p + 3, n - 3);
        else if (memchr(p, '=', n) == NULL)
            good = false;
        if (!good)
            return false;
        p += n;
        if (*p == '\0')
            return s->unix_s >= 0 && s->n > 0;
    }
}

int sign_check(const char *header, const char *token, int64_t now, const char *method,
               const char *path, const void *body, size_t len, char *why) {
    unsigned char mac[MAC_BYTES];
    struct signature s;
    bool match = false;
    int rc;

    if (token == NULL || token[0] == '\0' || header == NULL || !parse(&s, header)) {
        (void)snprintf(why, SIGN_WHY_BYTES,
                       SIGN_HEADER ": accepted is t=<unix seconds>,v1=<64 hex digits>");
        return -EINVAL;
    }
    rc = compute(mac, token, s.unix_s, method, path, body, len);
    if (rc != 0) {
        (void)snprintf(why, SIGN_WHY_BYTES, "the signature could not be computed: %s",
                       strerror(-rc));
        return rc;
    }
    for (unsigned i = 0; i < s.n; i++)
        match |= CRYPTO_memcmp(s.mac[i], mac, MAC_BYTES) == 0;
    if (!match) {
        (void)snprintf(why, SIGN_WHY_BYTES,
                       "the signature is not that of this request with our token");
        return -EACCES;
    }
    if (s.unix_s < now - SIGN_TOLERANCE_S || s.unix_s > now + SIGN_TOLERANCE_S) {
        (void)snprintf(why, SIGN_WHY_BYTES,
                       "signed %lld s %s our clock; accepted are %d s on either side",
                       (long long)(s.unix_s < now ? now - s.unix_s : s.unix_s - now),
                       s.unix_s < now ? "before" : "after", SIGN_TOLERANCE_S);
        return -ETIME;
    }
    return 0;
}
