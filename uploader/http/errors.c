/* What curl says, as a negative errno and in words that tell what to do. */
#include <errno.h>

#include "agent/base/mem.h"
#include "uploader/http/curl.h"

/* curl says "couldn't connect" for all of it; the reason is in the errno that it kept. There is none when the connection was there
 * and the other side closed it before curl had looked at it. */
static int connect_error(CURL *e) {
    long os = 0;

    if (curl_easy_getinfo(e, CURLINFO_OS_ERRNO, &os) != CURLE_OK || os <= 0)
        return -ECONNRESET;
    return -(int)os;
}

int http_error(CURL *e, CURLcode code) {
    switch (code) {
    case CURLE_OK:
        return 0;
    case CURLE_COULDNT_CONNECT:
        return connect_error(e);
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return -ENOENT;
    case CURLE_OPERATION_TIMEDOUT:
        return -ETIMEDOUT;
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE:
        return -ECONNRESET;
    case CURLE_OUT_OF_MEMORY:
        return -ENOMEM;
    case CURLE_PEER_FAILED_VERIFICATION:
        return -EBADE;
    case CURLE_SSL_CONNECT_ERROR:
        return -EKEYREJECTED;
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CIPHER:
        return -EIO;
    default:
        return -EPROTO;
    }
}

static bool says(const struct http_call *c, const char *text) {
    return strcasestr(c->curl_error, text) != NULL;
}

/* The numbers of OpenSSL's X509_V_ERR_…: they are part of its interface. */
static int certificate_error(const struct http_call *c, char *out, size_t size) {
    long why = 0;
    int rc = -EBADE;

    (void)curl_easy_getinfo(c->easy, CURLINFO_SSL_VERIFYRESULT, &why);
    switch (why) {
    case 9:
        (void)snprintf(out, size, "its certificate is not valid yet (or our clock is wrong)");
        break;
    case 10:
        (void)snprintf(out, size, "its certificate has expired");
        rc = -EKEYEXPIRED;
        break;
    case 2:
    case 18:
    case 19:
    case 20:
    case 21:
        (void)snprintf(out, size, "its certificate is not signed by an authority known here (%s)",
                       c->http->authorities.text);
        break;
    default:
        /* curl looks at the name itself, when OpenSSL was content. */
        if (says(c, "subject name") || says(c, "hostname"))
            (void)snprintf(out, size, "its certificate is for another name than %s",
                           c->tls_name[0] != '\0' ? c->tls_name : c->host);
        else
            (void)snprintf(out, size, "its certificate was refused: %s", c->curl_error);
        break;
    }
    return rc;
}

/* What went wrong, as a number and in words. */
int http_error_explain(const struct http_call *c, CURLcode code, char *out, size_t size) {
    int rc = http_error(c->easy, code);

    if (rc == -EBADE)
        return certificate_error(c, out, size);
    if (says(c, "certificate required") || says(c, "alert bad certificate") ||
        says(c, "alert unknown ca") || says(c, "alert certificate")) {
        (void)snprintf(out, size,
                       "it did not take our certificate (PILLION_CERT_FILE, PILLION_KEY_FILE)");
        return -EKEYREJECTED;
    }
    if (rc == -ENOENT)
        (void)snprintf(out, size, "the name %s cannot be looked up", c->host);
    else if (rc == -ETIMEDOUT)
        (void)snprintf(out, size, "no answer in time (%s)", c->curl_error);
    else if (rc == -EKEYREJECTED && says(c, "wrong version number"))
        (void)snprintf(out, size, "it does not speak TLS: is it http:// and not https://?");
    else if (rc == -EKEYREJECTED && (says(c, "SSL_ERROR_SYSCALL") || says(c, "unexpected eof")))
        (void)snprintf(out, size,
                       "it closed the connection at our TLS hello: does not speak TLS, or is busy");
    else if (rc == -EPROTO && says(c, "HTTP/0.9"))
        (void)snprintf(out, size, "it does not speak HTTP: is it https:// and not http://?");
    else if (rc == -ECONNRESET)
        (void)snprintf(out, size, "the connection was cut before the answer was whole");
    else if (code == CURLE_COULDNT_CONNECT)
        (void)snprintf(out, size, "cannot connect: %s", strerror(-rc));
    else
        (void)snprintf(out, size, "%s",
                       c->curl_error[0] != '\0' ? c->curl_error : curl_easy_strerror(code));
    return rc;
}
