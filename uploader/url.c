#include "uploader/url.h"

#include <ctype.h>
#include <errno.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

#define URL_BYTES  4096
#define HOST_BYTES 255

static int hex(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent-decodes n bytes; -EINVAL for a bad escape or a control character. */
static int decode(const char *s, size_t n, bool plus, char *out, size_t size) {
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        int c = (unsigned char)s[i];

        if (c == '%') {
            int high = i + 2 < n ? hex(s[i + 1]) : -1, low = i + 2 < n ? hex(s[i + 2]) : -1;

            if (high < 0 || low < 0)
                return -EINVAL;
            c = high * 16 + low;
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (c < 0x20 || c == 0x7f)
            return -EINVAL;
        if (len + 1 >= size)
            return -ENAMETOOLONG;
        out[len++] = (char)c;
    }
    out[len] = '\0';
    return 0;
}

static int take_decoded(char **ret, const char *s, size_t n) {
    char text[URL_BYTES];
    int rc = decode(s, n, false, text, sizeof(text));

    if (rc != 0)
        return -EINVAL;
    *ret = mem_strdup(text);
    return *ret != NULL ? 0 : -ENOMEM;
}

static int take_user(struct url *u, const char *s, size_t n) {
    const char *colon = memchr(s, ':', n);
    size_t len = colon != NULL ? (size_t)(colon - s) : n;
    int rc;

    if (len == 0)
        return -EINVAL;
    rc = take_decoded(&u->user, s, len);
    if (rc == 0 && colon != NULL)
        rc = take_decoded(&u->password, colon + 1, n - len - 1);
    /* RFC 7617: a colon in the user's name would be taken for the separator. */
    return rc == 0 && strchr(u->user, ':') != NULL ? -EINVAL : rc;
}

/* In brackets: what inet_pton would take, and perhaps a zone; the lookup says the rest. */
static size_t host_length(const char *s, size_t n) {
    size_t len = 0;

    if (n > 0 && s[0] == '[') {
        len = 1;
        while (len < n && (isxdigit((unsigned char)s[len]) || s[len] == ':' || s[len] == '.'))
            len++;
        return len < n && s[len] == ']' && len > 2 ? len + 1 : 0;
    }
    while (len < n && (isalnum((unsigned char)s[len]) || strchr("-._", s[len]) != NULL))
        len++;
    return s[0] == '.' || s[0] == '-' ? 0 : len;
}

static int take_host(struct url *u, const char *s, size_t n) {
    size_t len = n > 0 ? host_length(s, n) : 0;
    unsigned port = 0;

    if (len == 0 || len > HOST_BYTES)
        return -EINVAL;
    u->host = mem_strndup(s, len);
    if (u->host == NULL)
        return -ENOMEM;
    u->port = u->tls ? 443 : 80;
    if (len == n)
        return 0;
    if (s[len] != ':' || n - len < 2 || n - len > 6)
        return -EINVAL;
    for (size_t i = len + 1; i < n; i++) {
        if (!isdigit((unsigned char)s[i]))
            return -EINVAL;
        port = port * 10 + (unsigned)(s[i] - '0');
    }
    if (port == 0 || port > 65535)
        return -EINVAL;
    u->port = (uint16_t)port;
    return 0;
}

static int take_rest(struct url *u, const char *s) {
    size_t len = strcspn(s, "?");
    const char *query = s[len] == '?' ? s + len + 1 : NULL;

    while (len > 0 && s[len - 1] == '/')
        len--;
    u->path = mem_strndup(s, len);
    if (query != NULL)
        u->query = mem_strdup(query);
    return u->path != NULL && (query == NULL || u->query != NULL) ? 0 : -ENOMEM;
}

int url_parse(struct url *ret, const char *text) {
    struct url u = {0};
    const char *at, *p;
    size_t n;
    int rc = 0;

    u.tls = text_starts(text, "https://");
    if ((!u.tls && !text_starts(text, "http://")) || strlen(text) >= URL_BYTES)
        return -EINVAL;
    for (p = text; *p != '\0'; p++)
        if ((unsigned char)*p <= 0x20 || *p == 0x7f || strchr("#\"<>\\^`{|}", *p) != NULL)
            return -EINVAL;
    p = text + (u.tls ? strlen("https://") : strlen("http://"));
    n = strcspn(p, "/?");
    at = memrchr(p, '@', n);
    if (at != NULL) {
        rc = take_user(&u, p, (size_t)(at - p));
        n -= (size_t)(at + 1 - p);
        p = at + 1;
    }
    if (rc == 0)
        rc = take_host(&u, p, n);
    if (rc == 0)
        rc = take_rest(&u, p + n);
    if (rc != 0)
        url_clear(&u);
    *ret = u;
    return rc;
}

void url_clear(struct url *u) {
    mem_free(u->host);
    mem_free(u->user);
    mem_free(u->password);
    mem_free(u->path);
    mem_free(u->query);
    *u = (struct url){0};
}

int url_format(const struct url *u, const char *path, char *out, size_t size) {
    char port[8] = "";
    int n;

    if (u->port != (u->tls ? 443 : 80))
        (void)snprintf(port, sizeof(port), ":%u", (unsigned)u->port);
    n = snprintf(out, size, "%s://%s%s%s%s", u->tls ? "https" : "http", u->host, port, u->path,
                 path);
    return n >= 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

int url_parameter(const struct url *u, const char *name, char *out, size_t size) {
    size_t len = strlen(name), n;

    for (const char *p = u->query; p != NULL && *p != '\0'; p += n + (p[n] == '&')) {
        n = strcspn(p, "&");
        if (n > len && p[len] == '=' && memcmp(p, name, len) == 0)
            return decode(p + len + 1, n - len - 1, true, out, size);
    }
    return -ENOENT;
}

int url_check_parameters(const struct url *u, const char *const *known, char *bad, size_t size) {
    size_t n;

    for (const char *p = u->query; p != NULL && *p != '\0'; p += n + (p[n] == '&')) {
        size_t len = strcspn(p, "=&");
        const char *const *k = known;

        n = strcspn(p, "&");
        while (*k != NULL && (strlen(*k) != len || memcmp(*k, p, len) != 0))
            k++;
        if (*k != NULL && p[len] == '=')
            continue;
        (void)text_copy(bad, len < size ? len + 1 : size, p);
        return -EINVAL;
    }
    return 0;
}
