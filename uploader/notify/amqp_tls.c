#include "uploader/notify/amqp_tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"
#include "uploader/authorities.h"

static struct amqp_tls *of(const SSL *ssl) {
    return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

/* librabbitmq gives the socket out only when the handshake is over; who has to end a handshake that hangs needs it before. */
static void on_info(const SSL *ssl, int where, int ret) {
    struct amqp_tls *t = of(ssl);
    (void)ret;

    if ((where & SSL_CB_HANDSHAKE_START) != 0)
        t->socket(t->arg, SSL_get_fd(ssl));
}

static int on_verify(int good, X509_STORE_CTX *store) {
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());

    if (!good)
        of(ssl)->verify_error = X509_STORE_CTX_get_error(store);
    return good;
}

static int refuse(char *why, size_t why_size, const char *what, const char *file) {
    char reason[80];

    ERR_error_string_n(ERR_peek_last_error(), reason, sizeof(reason));
    (void)snprintf(why, why_size, "%s %.120s cannot be used (%s)", what, file, reason);
    ERR_clear_error();
    return -EINVAL;
}

static int load_authorities(SSL_CTX *ctx, const struct http_tls *files, char *why,
                            size_t why_size) {
    struct authorities a;

    authorities_find(&a, files->ca_file);
    if (a.file[0] != '\0' && SSL_CTX_load_verify_locations(ctx, a.file, NULL) != 1)
        return refuse(why, why_size, "the file of authorities", a.file);
    if (a.dir[0] != '\0' && SSL_CTX_load_verify_locations(ctx, NULL, a.dir) != 1)
        return refuse(why, why_size, "the folder of authorities", a.dir);
    return 0;
}

static int load_own(SSL_CTX *ctx, const struct http_tls *files, char *why, size_t why_size) {
    const char *key = files->key_file != NULL ? files->key_file : files->cert_file;

    if (files->cert_file == NULL)
        return 0;
    if (SSL_CTX_use_certificate_chain_file(ctx, files->cert_file) != 1)
        return refuse(why, why_size, "the certificate", files->cert_file);
    if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
        return refuse(why, why_size, "the key", key);
    return 0;
}

/* librabbitmq compares names only; this way an address in the certificate counts, too, and the handshake itself fails. */
static int expect_host(SSL_CTX *ctx, const char *host) {
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(ctx);
    struct in6_addr address;

    if (inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1 ? 0 : -ENOMEM;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return X509_VERIFY_PARAM_set1_host(param, host, 0) == 1 ? 0 : -ENOMEM;
}

int amqp_tls_setup(struct amqp_tls *t, void *ssl_ctx, const char *host,
                   const struct http_tls *files, char *why, size_t why_size) {
    SSL_CTX *ctx = ssl_ctx;
    int rc;

    t->verify_error = X509_V_OK;
    ERR_clear_error();
    SSL_CTX_set_app_data(ctx, t);
    SSL_CTX_set_info_callback(ctx, on_info);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, on_verify);
    (void)SSL_CTX_set_min_proto_version(ctx,
                                        TLS1_2_VERSION); /* a library without it has newer ones */
    rc = expect_host(ctx, host);
    if (rc == 0)
        rc = load_authorities(ctx, files, why, why_size);
    if (rc == 0)
        rc = load_own(ctx, files, why, why_size);
    return rc;
}

void amqp_tls_why(const struct amqp_tls *t, char *why, size_t why_size) {
    char reason[120];
    unsigned long error = ERR_peek_last_error();

    if (t->verify_error != X509_V_OK) {
        (void)snprintf(why, why_size, "the broker's certificate is not accepted: %s",
                       X509_verify_cert_error_string(t->verify_error));
    } else if (error != 0) {
        ERR_error_string_n(error, reason, sizeof(reason));
        (void)snprintf(why, why_size, "no TLS with the broker: %s", reason);
    } else {
        (void)text_copy(why, why_size, "the broker ended the TLS handshake");
    }
    ERR_clear_error();
}
