/* start → s3_clean → PUT → on_put → HEAD → s3_on_final_head → finish; more than 16 MiB: s3_upload (s3_parts.c).
 * Each answer passes on_answer first: when our clock is told to be wrong, the other side's is learned and the same is asked again. */
#include "uploader/stores/s3.h"

#include <errno.h>

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

#define EMPTY_HASH     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SKEW_S         240 /* S3 allows 900; less than that is not the clock */
#define MORE_HEADERS   10
#define HEADER_BYTES   2600
#define META           "x-amz-meta-sha256"
#define PREFIX_BYTES   256
#define REGION_DEFAULT "us-east-1"

static struct s3 *of(struct web *w) {
    return container_of(w, struct s3, web);
}

/* --- a request ---------------------------------------------------------------------------------- */

static bool on_data(void *arg, const char *data, size_t len) {
    struct s3 *s = of(arg);

    (void)s3_answer_feed(&s->answer, data, len); /* what is wrong with it is seen at its end */
    return true;
}

static void on_answer(struct web *w, const struct http_reply *reply);

/* The header lines to send and what is signed of them. */
struct head {
    struct sigv4_header signed_[SIGV4_HEADERS];
    size_t n_signed;
    const char *lines[MORE_HEADERS + 1];
    size_t n_lines;
    struct buf text; /* of the lines, each with its NUL */
};

static void add_line(struct head *h, const char *name, const char *value, bool is_signed) {
    if (is_signed)
        h->signed_[h->n_signed++] = (struct sigv4_header){name, value};
    buf_printf(&h->text, "%s: %s", name, value);
    buf_putc(&h->text, '\0');
}

static void cut_lines(struct head *h) {
    const char *p = h->text.data;

    while (p != NULL && p < h->text.data + h->text.len && h->n_lines < MORE_HEADERS) {
        h->lines[h->n_lines++] = p;
        p += strlen(p) + 1;
    }
    h->lines[h->n_lines] = NULL;
}

static int dress(struct s3 *s, const char *path, struct head *h) {
    const struct s3_request *rq = &s->request;
    const struct sigv4_key key = {s->access, s->secret, s->region};
    const char *payload = rq->payload != NULL ? rq->payload : EMPTY_HASH;
    char date[SIGV4_DATE_BYTES];
    struct sigv4_request sign = {.method = rq->method,
                                 .path = path,
                                 .query = rq->query != NULL ? rq->query : "",
                                 .payload = payload,
                                 .date = date};
    struct buf authorization;
    int rc;

    sigv4_date(clock_wall_ms() / 1000 + s->clock_offset_s, date);
    h->signed_[h->n_signed++] = (struct sigv4_header){"host", s->host}; /* curl sends it */
    add_line(h, "x-amz-content-sha256", payload, true);
    add_line(h, "x-amz-date", date, true);
    if (s->token != NULL)
        add_line(h, "x-amz-security-token", s->token, true);
    if (rq->describes) {
        add_line(h, META, s->web.base.sha256, true);
        add_line(h, "Content-Type", s->web.base.content_type, false);
    } else if (rq->body != NULL) {
        add_line(h, "Content-Type", "application/xml", false);
    }
    sign.headers = h->signed_;
    sign.n_headers = h->n_signed;
    buf_init(&authorization, HEADER_BYTES);
    rc = sigv4_sign(&key, &sign, &authorization);
    if (rc == 0)
        add_line(h, "Authorization", authorization.data, false);
    buf_clear(&authorization);
    cut_lines(h);
    return rc != 0 ? rc : h->text.err;
}

static void ask_again(struct s3 *s) {
    const struct s3_request *rq = &s->request;
    const char *path = rq->path != NULL ? rq->path : s->object;
    bool query = rq->query != NULL && *rq->query != '\0';
    struct http_request_out out = {.method = rq->method,
                                   .body = rq->body,
                                   .body_len = rq->body_len,
                                   .file = rq->has_file ? &rq->file : NULL,
                                   .data = on_data,
                                   .total_ms = rq->total_ms,
                                   .stall_ms = rq->stall_ms};
    char url[S3_PATH_BYTES + S3_QUERY_BYTES];
    struct head h = {0};
    int rc;

    buf_init(&h.text, 4 * HEADER_BYTES);
    s3_answer_begin(&s->answer, rq->on_part, s, rq->list_key);
    (void)snprintf(url, sizeof(url), "%s://%s%s%s%s", s->tls ? "https" : "http", s->host, path,
                   query ? "?" : "", query ? rq->query : "");
    rc = dress(s, path, &h);
    out.url = url;
    out.headers = h.lines;
    if (rc != 0)
        store_finish(&s->web.base, -EAGAIN, ANSWER_RETRY, -1, "a request cannot be signed: %s",
                     strerror(-rc));
    else
        web_ask(&s->web, &out, on_answer);
    buf_clear(&h.text);
}

void s3_ask(struct s3 *s, const struct s3_request *rq, s3_next_cb next) {
    s->request = *rq;
    s->next = next;
    ask_again(s);
}

/* HEAD has no body to say why; the time that comes with each answer does. */
static bool learn_clock(struct s3 *s, const struct http_reply *reply) {
    int64_t there = http_reply_date(reply), offset = there - clock_wall_ms() / 1000;

    if (s->clock_learned || reply->rc != 0 || (reply->status != 403 && reply->status != 400) ||
        there <= 0 || llabs((long long)(offset - s->clock_offset_s)) < SKEW_S)
        return false;
    log_warn("store %s: our clock is %lld s %s its clock: requests are signed with its time",
             s->web.base.name, llabs((long long)offset), offset > 0 ? "behind" : "ahead of");
    s->clock_offset_s = offset;
    s->clock_learned = true;
    return true;
}

static void on_answer(struct web *w, const struct http_reply *reply) {
    struct s3 *s = of(w);

    if (reply->rc == 0 && reply->status != 200)
        (void)s3_answer_feed(&s->answer, reply->body, reply->len);
    if (learn_clock(s, reply))
        ask_again(s);
    else
        s->next(s, reply);
}

/* --- what it means ------------------------------------------------------------------------------ */

bool s3_ok(const struct http_reply *reply) {
    return reply->rc == 0 && reply->status >= 200 && reply->status <= 299;
}

enum s3_meaning s3_meaning(const struct s3 *s, const struct http_reply *reply) {
    return reply->rc == 0 ? s3_code_meaning(s->answer.code, NULL) : S3_BY_STATUS;
}

void s3_fail(struct s3 *s, const char *what, const struct http_reply *reply) {
    const char *words = "";
    enum s3_meaning m = s3_meaning(s, reply);
    bool head = strcmp(s->request.method, "HEAD") == 0;
    char message[200];

    /* HEAD has no words: a 400 is a wrong region or an old token, never the object. */
    if (head && reply->rc == 0 && reply->status == 400) {
        store_finish(&s->web.base, -EAGAIN, ANSWER_SETTLE, reply->retry_after_ms,
                     "%s: answered 400: are AWS_REGION and the credentials right?", what);
        return;
    }
    if (m == S3_BY_STATUS && (reply->rc != 0 || s->answer.code[0] == '\0')) {
        web_fail(&s->web, what, reply);
        return;
    }
    (void)s3_code_meaning(s->answer.code, &words);
    if (m == S3_BY_STATUS && answer_of_status(reply->status) == ANSWER_SETTLE)
        m = S3_SETTLE;
    if (m == S3_BY_STATUS && answer_of_status(reply->status) == ANSWER_PARK)
        m = S3_REFUSED;
    text_show(message, sizeof(message), s->answer.message);
    store_finish(&s->web.base, m == S3_REFUSED ? -EPERM : -EAGAIN,
                 m == S3_SETTLE || m == S3_CLOCK ? ANSWER_SETTLE : ANSWER_RETRY,
                 reply->retry_after_ms, "%s: answered %ld %.64s%s%s (%s)", what, reply->status,
                 s->answer.code, *words != '\0' ? ": " : "", words, message);
}

bool s3_is_ours(struct s3 *s, const struct http_reply *reply, char *why, size_t size) {
    char sha256[HASH_HEX_BYTES + 1];
    int64_t len = web_length(reply);

    if (len < 0 || (uint64_t)len != s->web.base.bytes) {
        (void)snprintf(why, size, "not whole: the store has %lld of %llu bytes", (long long)len,
                       (unsigned long long)s->web.base.bytes);
        return false;
    }
    /* A store that keeps no metadata tells none. */
    if (http_reply_header(reply, META, sha256, sizeof(sha256)) &&
        strcmp(sha256, s->web.base.sha256) != 0) {
        (void)snprintf(why, size, "the store has another file under this name");
        return false;
    }
    return true;
}

void s3_head(struct s3 *s, s3_next_cb next) {
    s3_ask(s, &(struct s3_request){.method = "HEAD"}, next);
}

void s3_on_final_head(struct s3 *s, const struct http_reply *reply) {
    struct store *b = &s->web.base;
    char why[128];

    if (!s3_ok(reply)) {
        s3_fail(s, "HEAD, to see whether it is whole", reply);
    } else if (!s3_is_ours(s, reply, why, sizeof(why))) {
        store_finish(b, -EAGAIN, ANSWER_RETRY, -1, "%s", why);
    } else {
        if (b->bytes > S3_SINGLE_BYTES)
            s3_state_drop(s);
        b->sent = b->bytes;
        store_finish(b, 0, ANSWER_TAKEN, -1, "%s", "");
    }
}

/* --- one PUT ------------------------------------------------------------------------------------ */

static void on_put(struct s3 *s, const struct http_reply *reply) {
    if (s3_ok(reply))
        s3_head(s, s3_on_final_head);
    else
        s3_fail(s, "PUT", reply);
}

/* Everything fits: three times the longest prefix and key. */
void s3_set_key(struct s3 *s, const char *key) {
    (void)snprintf(s->key, sizeof(s->key), "%s%s%s", s->prefix, *s->prefix != '\0' ? "/" : "", key);
    (void)snprintf(s->bucket_path, sizeof(s->bucket_path), "/%s", s->path_style ? s->bucket : "");
    (void)snprintf(s->object, sizeof(s->object), "%s%s", s->bucket_path, s->path_style ? "/" : "");
    (void)sigv4_encode(s->object, sizeof(s->object), s->key, true);
}

static void begin(struct s3 *s) {
    struct store *b = &s->web.base;

    s3_set_key(s, b->key);
    (void)snprintf(b->url, sizeof(b->url), "s3://%s/%s", s->bucket, s->key);
    s->web.before = 0;
    if (b->bytes > S3_SINGLE_BYTES)
        s3_upload(s);
    else
        s3_ask(s,
               &(struct s3_request){.method = "PUT",
                                    .payload = b->sha256,
                                    .describes = true,
                                    .has_file = true,
                                    .file = {.fd = b->fd, .length = b->bytes}},
               on_put);
}

static void s3_start(struct store *base) {
    struct s3 *s = of(container_of(base, struct web, base));

    s->clock_learned = false;
    s3_clean(s, begin);
}

static void s3_cancel(struct store *base) {
    struct s3 *s = of(container_of(base, struct web, base));

    web_cancel(base);
    (void)uv_cancel((uv_req_t *)&s->work); /* when one is waiting; a hash that runs ends soon */
}

static void on_removed(struct s3 *s, const struct http_reply *reply) {
    (void)reply; /* see put.c */
    store_finish(&s->web.base, 0, ANSWER_TAKEN, -1, "%s", "");
}

static void s3_remove(struct store *base) {
    s3_ask(of(container_of(base, struct web, base)), &(struct s3_request){.method = "DELETE"},
           on_removed);
}

static void s3_forget(struct store *base, const char *key) {
    s3_state_forget(of(container_of(base, struct web, base)), key);
}

static void s3_free(struct store *base) {
    struct s3 *s = of(container_of(base, struct web, base));

    s3_upload_clear(s);
    if (s->secret != NULL)
        explicit_bzero(s->secret, strlen(s->secret));
    mem_free(s->access);
    mem_free(s->secret);
    mem_free(s->token);
    mem_free(s->prefix);
    mem_free(s->state_dir);
    web_free(base);
}

static const struct store_ops ops = {
    .start = s3_start,
    .cancel = s3_cancel,
    .remove = s3_remove,
    .forget = s3_forget,
    .free = s3_free,
};

/* --- configuration ------------------------------------------------------------------------------ */

static bool is_bucket(const char *name) {
    size_t n = strlen(name);

    return n >= 3 && n <= 63 && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-_") == n &&
           name[0] != '.' && name[0] != '-' && strstr(name, "..") == NULL;
}

static int take_place(struct s3 *s, const char *rest, struct buf *why) {
    size_t n = strcspn(rest, "/"), len;
    const char *prefix = rest + n + (rest[n] == '/');

    len = strlen(prefix);
    while (len > 0 && prefix[len - 1] == '/')
        len--;
    if (n < sizeof(s->bucket))
        (void)text_copy(s->bucket, n + 1, rest);
    s->prefix = mem_strndup(prefix, len);
    if (s->prefix == NULL)
        return -ENOMEM;
    if (is_bucket(s->bucket) && len < PREFIX_BYTES && *s->prefix != '/' &&
        strpbrk(s->prefix, "?#@\\") == NULL && strstr(s->prefix, "//") == NULL &&
        strstr(s->prefix, "./") == NULL)
        return 0;
    buf_puts(why, "PILLION_STORE=\"s3://…\": is not s3://BUCKET[/PREFIX], with 3 to 63 small "
                  "letters, digits, '-' and '.' as bucket; keys belong into AWS_ACCESS_KEY_ID and "
                  "AWS_SECRET_ACCESS_KEY");
    return -EINVAL;
}

static int take_endpoint(struct s3 *s, const struct store_s3 *c, struct buf *why) {
    struct url u = {0};
    int rc, n;

    s->path_style = c->endpoint != NULL || strchr(s->bucket, '.') != NULL;
    s->tls = true;
    if (c->endpoint == NULL) {
        (void)snprintf(s->host, sizeof(s->host), "%s%ss3.%s.amazonaws.com%s",
                       s->path_style ? "" : s->bucket, s->path_style ? "" : ".", s->region,
                       text_starts(s->region, "cn-") ? ".cn" : "");
        return 0;
    }
    rc = url_parse(&u, c->endpoint);
    if (rc == -ENOMEM)
        return rc;
    if (rc != 0 || u.user != NULL || u.query != NULL || u.path[0] != '\0') {
        buf_printf(why, "AWS_ENDPOINT_URL: is not http(s)://HOST[:PORT]");
        url_clear(&u);
        return -EINVAL;
    }
    s->tls = u.tls;
    n = u.port == (u.tls ? 443 : 80)
            ? snprintf(s->host, sizeof(s->host), "%s", u.host)
            : snprintf(s->host, sizeof(s->host), "%s:%u", u.host, (unsigned)u.port);
    url_clear(&u);
    return n < (int)sizeof(s->host) ? 0 : -EINVAL;
}

static bool is_set(const char *text) {
    return text != NULL && *text != '\0';
}

static int take_keys(struct s3 *s, const struct store_s3 *c, struct buf *why) {
    const char *region = is_set(c->region) ? c->region : REGION_DEFAULT;

    if (!is_set(c->access_key) || !is_set(c->secret_key)) {
        buf_puts(why, "PILLION_STORE=s3://… needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
        return -EINVAL;
    }
    if (!text_copy(s->region, sizeof(s->region), region) ||
        strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(region)) {
        buf_puts(why, "AWS_REGION: is not a region: small letters, digits and '-'");
        return -EINVAL;
    }
    if (strpbrk(c->access_key, " \r\n\t/") != NULL || strlen(c->access_key) > 256 ||
        strlen(c->secret_key) > 256 ||
        (is_set(c->session_token) &&
         (strlen(c->session_token) > 2 * 1024 || strpbrk(c->session_token, " \r\n\t") != NULL))) {
        buf_puts(why, "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or AWS_SESSION_TOKEN: is too long, "
                      "or has blanks or line ends in it");
        return -EINVAL;
    }
    s->access = mem_strdup(c->access_key);
    s->secret = mem_strdup(c->secret_key);
    s->token = is_set(c->session_token) ? mem_strdup(c->session_token) : NULL;
    return s->access != NULL && s->secret != NULL && (s->token != NULL) == is_set(c->session_token)
               ? 0
               : -ENOMEM;
}

static int take_state_dir(struct s3 *s, const struct store_env *env) {
    const char *dir = env->state_dir != NULL ? env->state_dir : env->data_dir;
    const char *below = env->state_dir != NULL ? "" : "/uploads";
    size_t size = strlen(dir) + strlen(below) + 1;

    s->state_dir = mem_alloc(size);
    if (s->state_dir == NULL)
        return -ENOMEM;
    (void)snprintf(s->state_dir, size, "%s%s", dir, below);
    return 0;
}

int store_s3_new(struct store **ret, const char *rest, const struct store_env *env,
                 struct buf *why) {
    const struct store_s3 c = env->s3 != NULL ? *env->s3 : store_s3_environment();
    struct s3 *s = mem_calloc(1, sizeof(*s));
    int rc;

    if (s == NULL)
        return -ENOMEM;
    s->web.base.ops = &ops;
    s->web.http = env->http;
    rc = take_place(s, rest, why);
    if (rc == 0)
        rc = take_keys(s, &c, why);
    if (rc == 0)
        rc = take_endpoint(s, &c, why);
    if (rc == 0)
        rc = take_state_dir(s, env);
    if (rc != 0) {
        s3_free(&s->web.base);
        mem_free(s);
        return rc;
    }
    (void)snprintf(s->web.base.name, sizeof(s->web.base.name), "s3://%.63s/%.255s", s->bucket,
                   s->prefix);
    *ret = &s->web.base;
    return 0;
}
