/* What the headers of an answer say. */
#include "agent/base/clock.h"
#include "agent/base/limits.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/http/curl.h"

bool http_reply_header(const struct http_reply *reply, const char *name, char *out, size_t size) {
    size_t len = strlen(name);
    bool found = false;

    for (const char *p = reply->headers; *p != '\0'; p += strcspn(p, "\n") + 1) {
        const char *value = p + len + 1;
        size_t n;

        if (strncmp(p, name, len) != 0 || p[len] != ':')
            continue;
        value += strspn(value, " \t");
        n = strcspn(value, "\n");
        (void)text_copy(out, n < size ? n + 1 : size, value); /* cut is fine */
        found = true;
    }
    return found;
}

int64_t http_reply_date(const struct http_reply *reply) {
    char date[64];

    return http_reply_header(reply, "date", date, sizeof(date)) ? (int64_t)curl_getdate(date, NULL)
                                                                : -1;
}

/* Seconds, or a date: then measured from the other side's own clock where it tells it. */
int64_t http_reply_retry_after(const struct http_reply *reply) {
    char value[64], date[64];
    uint64_t seconds;
    time_t until, now;
    int64_t ms;

    if (!http_reply_header(reply, "retry-after", value, sizeof(value)))
        return -1;
    if (text_u64(value, &seconds) == 0) {
        ms = seconds < LIMIT_RETRY_AFTER_MS ? (int64_t)seconds * 1000 : LIMIT_RETRY_AFTER_MS;
    } else {
        until = curl_getdate(value, NULL);
        now = http_reply_header(reply, "date", date, sizeof(date)) ? curl_getdate(date, NULL) : -1;
        if (now == -1)
            now = (time_t)(clock_wall_ms() / 1000);
        if (until == -1)
            return -1;
        ms = until > now ? (int64_t)(until - now) * 1000 : 0;
    }
    return ms < LIMIT_RETRY_AFTER_MS ? ms : LIMIT_RETRY_AFTER_MS;
}
