/* Where each name was last reached, for the time when names cannot be looked up (P53). Not behind a proxy: it does the looking up. */
#include "agent/base/clock.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/http/curl.h"

#include <errno.h>

#define TRUSTED_MS 30000 /* a name that failed is not looked up again for so long */

static struct http_address *address_of(struct http *h, const char *host) {
    for (size_t i = 0; i < HTTP_ADDRESSES; i++)
        if (host[0] != '\0' && strcmp(h->addresses[i].host, host) == 0)
            return &h->addresses[i];
    return NULL;
}

void http_address_reached(struct http_call *c) {
    struct http *h = c->http;
    struct http_address *a = address_of(h, c->host), *oldest = &h->addresses[0];
    char *ip = NULL;

    if (h->proxied || c->host[0] == '\0' ||
        curl_easy_getinfo(c->easy, CURLINFO_PRIMARY_IP, &ip) != CURLE_OK || ip == NULL ||
        *ip == '\0')
        return;
    for (size_t i = 0; a == NULL && i < HTTP_ADDRESSES; i++)
        if (h->addresses[i].used_ms < oldest->used_ms)
            oldest = &h->addresses[i];
    if (a == NULL) {
        a = oldest;
        *a = (struct http_address){0};
        (void)text_copy(a->host, sizeof(a->host), c->host);
    }
    (void)text_copy(a->ip, sizeof(a->ip), ip);
    a->used_ms = clock_mono_ms();
}

void http_address_lookup_failed(struct http_call *c) {
    struct http_address *a = address_of(c->http, c->host);

    if (a != NULL)
        a->bad_until_ms = clock_mono_ms() + TRUSTED_MS;
}

/* "+host:port:address": for curl, as if it had been looked up. */
int http_address_use(struct http_call *c, unsigned port) {
    const struct http_address *a = address_of(c->http, c->host);
    char entry[400];

    if (a == NULL || clock_mono_ms() >= a->bad_until_ms)
        return 0;
    (void)snprintf(entry, sizeof(entry), strchr(a->ip, ':') != NULL ? "+%s:%u:[%s]" : "+%s:%u:%s",
                   a->host, port, a->ip);
    c->resolve = curl_slist_append(NULL, entry);
    if (c->resolve == NULL || curl_easy_setopt(c->easy, CURLOPT_RESOLVE, c->resolve) != CURLE_OK)
        return -ENOMEM;
    return 0;
}
