#include "uploader/registry/hubs.h"

#include <ctype.h>
#include <errno.h>

#include "agent/base/mem.h"
#include "uploader/registry/schedule.h"

#define HOST_BYTES 253 /* of a name in the DNS */

void hubs_init(struct hubs *h, uint64_t key) {
    *h = (struct hubs){.key = key};
}

/* Nothing that could mean more than a host in a URL. */
static bool is_host(const char *s, bool *v6) {
    size_t len = strlen(s);

    *v6 = strchr(s, ':') != NULL;
    if (len == 0 || len > HOST_BYTES || s[0] == '-')
        return false;
    for (; *s != '\0'; s++) {
        bool fine = *v6 ? isxdigit((unsigned char)*s) || *s == ':' || *s == '.'
                        : isalnum((unsigned char)*s) || *s == '.' || *s == '-' || *s == '_';
        if (!fine)
            return false;
    }
    return true;
}

static void insert(struct hubs *h, const struct hub *new) {
    unsigned at = h->n;

    for (unsigned i = 0; i < h->n; i++)
        if (strcmp(h->list[i].url, new->url) == 0)
            return;
    while (at > 0 && h->list[at - 1].rank > new->rank)
        at--;
    if (at == LIMIT_HUBS)
        return;
    if (h->n == LIMIT_HUBS)
        h->n--;
    memmove(&h->list[at + 1], &h->list[at], (h->n - at) * sizeof(h->list[0]));
    h->list[at] = *new;
    h->n++;
}

int hubs_add(struct hubs *h, bool tls, const char *host, int64_t port) {
    struct hub new = {.failed_until_ms = 0};
    bool v6;

    if (!is_host(host, &v6) || port < 1 || port > UINT16_MAX)
        return -EINVAL;
    (void)snprintf(new.url, sizeof(new.url), v6 ? "%s://[%s]:%d" : "%s://%s:%d",
                   tls ? "https" : "http", host, (int)port);
    new.rank = schedule_spread(h->key, new.url, UINT64_MAX);
    insert(h, &new);
    return 0;
}

static struct hub *find(struct hubs *h, const char *url) {
    for (unsigned i = 0; i < h->n; i++)
        if (strcmp(h->list[i].url, url) == 0)
            return &h->list[i];
    return NULL;
}

static bool same(struct hubs *h, const struct hubs *answer) {
    if (h->n != answer->n)
        return false;
    for (unsigned i = 0; i < h->n; i++)
        if (find(h, answer->list[i].url) == NULL)
            return false;
    return true;
}

bool hubs_update(struct hubs *h, const struct hubs *answer, uint64_t now) {
    struct hubs before = *h;

    if (answer->n == 0 && h->n > 0 && now - h->good_ms < HUBS_KEEP_MS)
        return false;
    if (answer->n > 0)
        h->good_ms = now;
    if (same(h, answer))
        return false;
    h->n = answer->n;
    memcpy(h->list, answer->list, sizeof(h->list));
    for (unsigned i = 0; i < h->n; i++) {
        const struct hub *old = find(&before, h->list[i].url);

        h->list[i].failed_until_ms = old != NULL ? old->failed_until_ms : 0;
    }
    return true;
}

const char *hubs_pick(const struct hubs *h, uint64_t now) {
    const struct hub *best = NULL;

    for (unsigned i = 0; i < h->n; i++) {
        const struct hub *x = &h->list[i];

        if (x->failed_until_ms <= now)
            return x->url;
        if (best == NULL || x->failed_until_ms < best->failed_until_ms)
            best = x;
    }
    return best != NULL ? best->url : NULL;
}

bool hubs_failed(struct hubs *h, const char *url, uint64_t now) {
    struct hub *x = find(h, url);
    const char *next;

    if (x == NULL)
        return h->n > 0;
    x->failed_until_ms = now + HUBS_FAILED_MS;
    next = hubs_pick(h, now);
    return next != x->url;
}

void hubs_worked(struct hubs *h, const char *url) {
    struct hub *x = find(h, url);

    if (x != NULL)
        x->failed_until_ms = 0;
}
