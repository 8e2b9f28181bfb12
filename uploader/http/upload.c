/* A stretch of a file as the body of a request. The loop reads it itself, a piece at a time, as the socket takes it: what was just
 * written is in the page cache, and the kernel is asked to read ahead of us. */
#include <errno.h>
#include <fcntl.h>

#include "agent/base/mem.h"
#include "uploader/http/curl.h"

#define PIECE_BYTES   65536L
#define AHEAD_BYTES   (1 << 20)
#define AHEAD_EACH(n) ((n) % (AHEAD_BYTES / 2) < (uint64_t)PIECE_BYTES)

static size_t on_read(char *out, size_t size, size_t n, void *arg) {
    struct http_call *c = arg;
    uint64_t left = c->file.length - c->file_at;
    ssize_t got;

    n *= size;
    if (n > left)
        n = (size_t)left;
    if (n == 0)
        return 0;
    if (AHEAD_EACH(
            c->file_at)) /* without it a cold file would be waited for; a failure costs just that */
        (void)posix_fadvise(c->file.fd, (off_t)(c->file.offset + c->file_at), AHEAD_BYTES,
                            POSIX_FADV_WILLNEED);
    do
        got = pread(c->file.fd, out, n, (off_t)(c->file.offset + c->file_at));
    while (got < 0 && errno == EINTR);
    if (got <= 0) {
        c->file_err = got < 0 ? -errno : -ENODATA;
        return CURL_READFUNC_ABORT;
    }
    c->file_at += (uint64_t)got;
    return (size_t)got;
}

/* curl goes back when a kept connection turns out to be dead. */
static int on_seek(void *arg, curl_off_t offset, int origin) {
    struct http_call *c = arg;

    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > c->file.length)
        return CURL_SEEKFUNC_FAIL;
    c->file_at = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

int http_upload_setup(struct http_call *c, const struct http_request_out *o) {
    CURL *e = c->easy;

    c->file = *o->file;
    c->sent = o->sent;
    return curl_easy_setopt(e, CURLOPT_UPLOAD, 1L) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, PIECE_BYTES) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_READFUNCTION, on_read) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_READDATA, c) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_SEEKDATA, c) == CURLE_OK &&
                   curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)o->file->length) ==
                       CURLE_OK
               ? 0
               : -ENOMEM;
}
