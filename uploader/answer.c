#include "uploader/answer.h"

#include <ctype.h>
#include <sys/random.h>

#include "agent/base/clock.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define FLOOR_MS       100
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 60000
#define SETTLE_MIN_MS  30000
#define SETTLE_MAX_MS  60000
#define QUOTE_BYTES    160

/* The first row that fits. */
static const struct {
    long from, to;
    enum answer meaning;
} table[] = {
    {200, 299, ANSWER_TAKEN},  {300, 399, ANSWER_SETTLE}, {401, 401, ANSWER_SETTLE},
    {403, 405, ANSWER_SETTLE}, {407, 407, ANSWER_SETTLE}, {408, 408, ANSWER_RETRY},
    {413, 413, ANSWER_SPLIT},  {421, 421, ANSWER_SETTLE}, {425, 425, ANSWER_RETRY},
    {426, 426, ANSWER_SETTLE}, {429, 429, ANSWER_RETRY},  {400, 499, ANSWER_PARK},
};

enum answer answer_of_status(long status) {
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (status >= table[i].from && status <= table[i].to)
            return table[i].meaning;
    return ANSWER_RETRY;
}

enum answer answer_meaning(const struct http_reply *reply) {
    return reply->rc != 0 ? ANSWER_RETRY : answer_of_status(reply->status);
}

uint64_t answer_random(uint64_t least, uint64_t most) {
    uint64_t r;

    if (getrandom(&r, sizeof(r), GRND_NONBLOCK) != sizeof(r))
        r = clock_mono_ns() * 6364136223846793005u; /* at boot: better than nothing */
    return most > least ? least + r % (most - least + 1) : least;
}

uint64_t answer_wait_with(enum answer a, unsigned failures, int64_t retry_after_ms,
                          uint32_t random) {
    uint64_t least = FLOOR_MS, most = BACKOFF_MIN_MS;

    for (unsigned i = 1; i < failures && most < BACKOFF_MAX_MS; i++)
        most *= 2;
    if (most > BACKOFF_MAX_MS)
        most = BACKOFF_MAX_MS;
    if (a == ANSWER_SETTLE) {
        least = SETTLE_MIN_MS;
        most = SETTLE_MAX_MS;
    }
    if (retry_after_ms >= 0 && (uint64_t)retry_after_ms >= least) {
        /* All of those who were told the same time would come at once. */
        least = (uint64_t)retry_after_ms;
        most = least + (least / 4 > BACKOFF_MIN_MS ? least / 4 : BACKOFF_MIN_MS);
    }
    return least + random % (most - least + 1);
}

uint64_t answer_wait_ms(enum answer a, unsigned failures, int64_t retry_after_ms) {
    return answer_wait_with(a, failures, retry_after_ms, (uint32_t)answer_random(0, UINT32_MAX));
}

static const struct {
    long status;
    const char *words;
} reasons[] = {
    {301, "Moved: the address has changed"},
    {302, "Found: it sends us elsewhere"},
    {307, "Redirect: it sends us elsewhere"},
    {308, "Moved: the address has changed"},
    {400, "Bad Request"},
    {401, "Unauthorized: user, password or token are missing or wrong"},
    {403, "Forbidden"},
    {404, "Not Found: is the path right?"},
    {405, "Method Not Allowed: is the path right?"},
    {407, "the proxy wants a password"},
    {408, "Request Timeout"},
    {413, "Content Too Large"},
    {415, "Unsupported Media Type"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {500, "Internal Server Error"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
};

/* What the other side says, on one line. Pages for browsers say nothing. */
static void quote(const struct http_reply *r, char *out, size_t size) {
    char line[QUOTE_BYTES + 1], shown[QUOTE_BYTES + 1];
    size_t n = r->len < QUOTE_BYTES ? r->len : QUOTE_BYTES;
    const char *start = r->body;

    out[0] = '\0';
    while (n > 0 && isspace((unsigned char)*start)) {
        start++;
        n--;
    }
    if (n == 0 || *start == '<')
        return;
    for (size_t i = 0; i < n; i++)
        line[i] = isspace((unsigned char)start[i]) || start[i] == '\0' ? ' ' : start[i];
    line[n] = '\0';
    text_show(shown, sizeof(shown), line);
    (void)snprintf(out, size, " (%s)", shown);
}

void answer_text(const struct http_reply *reply, char *out, size_t size) {
    const char *words = "";
    char said[QUOTE_BYTES + 8];

    if (reply->rc != 0) {
        (void)text_copy(out, size, reply->error); /* cut is fine */
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(reasons); i++)
        if (reasons[i].status == reply->status)
            words = reasons[i].words;
    quote(reply, said, sizeof(said));
    (void)snprintf(out, size, "answered %ld%s%s%s", reply->status, *words != '\0' ? " " : "", words,
                   said);
}
