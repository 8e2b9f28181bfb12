/* amqp_tls.h - TLS of a broker's connection: whom we trust, who we are. TLS 1.2 or newer; the certificate has to be for the host
 * (a name or an address), and is checked before a password leaves. */
#ifndef PILLION_UPLOADER_NOTIFY_AMQP_TLS_H
#define PILLION_UPLOADER_NOTIFY_AMQP_TLS_H

#include <stddef.h>

#include "uploader/http.h"

/* Filled while a connection is made; has to outlive its SSL context. */
struct amqp_tls {
    void (*socket)(void *arg, int fd); /* the handshake begins on this socket */
    void *arg;
    long verify_error; /* X509_V_…; 0 */
};

/* Sets an SSL_CTX up. -EINVAL, with a line for people in `why`: a file cannot be read. */
int amqp_tls_setup(struct amqp_tls *t, void *ssl_ctx, const char *host,
                   const struct http_tls *files, char *why, size_t why_size);
/* What went wrong in the handshake that has just failed on this thread. */
void amqp_tls_why(const struct amqp_tls *t, char *why, size_t why_size);

#endif
