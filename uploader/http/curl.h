/* curl.h - inside of uploader/http.h: the one place that includes libcurl. For uploader/http.c and the files of this folder. */
#ifndef PILLION_UPLOADER_HTTP_CURL_H
#define PILLION_UPLOADER_HTTP_CURL_H

#include <curl/curl.h>

#include "uploader/authorities.h"
#include "uploader/http.h"

#define HTTP_ADDRESSES    8
#define HTTP_IDLE_HANDLES 4

/* Where a name was last reached. */
struct http_address {
    char host[256]; /* "" free */
    char ip[64];
    uint64_t bad_until_ms; /* the name cannot be looked up; 0 fine */
    uint64_t used_ms;
};

struct http {
    uv_loop_t *loop;
    CURLM *multi;
    uv_timer_t wake;  /* curl's timer */
    uv_timer_t later; /* delivers what was cancelled, and closes */
    struct http_call *calls;
    unsigned n_calls;
    CURL *idle[HTTP_IDLE_HANDLES]; /* they keep TLS sessions */
    unsigned n_idle;
    unsigned handles; /* of libuv that are open */
    bool closing, cleaned, proxied;
    uint64_t connections;
    struct http_address addresses[HTTP_ADDRESSES];
    struct authorities authorities;
    char *cert_file, *key_file;
    void (*closed)(void *arg);
    void *closed_arg;
};

struct http_call {
    struct http *http;
    struct http_call *next, *prev;
    CURL *easy;
    struct curl_slist *headers, *resolve, *connect_to;
    struct buf body, head;
    size_t answer_max;
    http_data_cb data;
    http_done_cb done;
    void *arg;
    bool cancelled, whole_head, truncated, head_too_long, stalled;
    uint32_t stall_ms;
    curl_off_t moved;      /* bytes in both directions … */
    uint64_t moved_ms;     /* … when there was the last one */
    struct http_file file; /* fd -1: none */
    uint64_t file_at;      /* bytes of it that curl has taken */
    int file_err;          /* why no more could be read, a negative errno */
    http_sent_cb sent;
    char host[256];
    char tls_name[256]; /* "": the same as host */
    char curl_error[CURL_ERROR_SIZE];
};

/* reserve.c: curl_global_init_mem() with our allocator. */
CURLcode http_curl_init(long flags);

/* setup.c: everything but the callbacks. */
int http_call_setup(struct http_call *c, const struct http_request_out *o);

/* upload.c: the body is a file. */
int http_upload_setup(struct http_call *c, const struct http_request_out *o);

/* addresses.c */
void http_address_reached(struct http_call *c);       /* its name is where the answer came from */
void http_address_lookup_failed(struct http_call *c); /* for a while the known one is used */
int http_address_use(struct http_call *c, unsigned port);

/* errors.c: a code of curl as a negative errno; the same with the reason for people. */
int http_error(CURL *easy, CURLcode code);
int http_error_explain(const struct http_call *c, CURLcode code, char *out, size_t size);

/* reply.c: milliseconds, -1 not said. */
int64_t http_reply_retry_after(const struct http_reply *reply);

#endif
