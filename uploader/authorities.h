/* authorities.h - where the certificates of authorities are on this machine.
 *
 * Order: what was configured, SSL_CERT_FILE / SSL_CERT_DIR, CURL_CA_BUNDLE; else the system's: a hashed folder before any bundle
 * file, because a folder costs no memory and a bundle 0.9 MB for ever. NODE_EXTRA_CA_CERTS is what it says: a file beside the
 * system's. */
#ifndef PILLION_UPLOADER_AUTHORITIES_H
#define PILLION_UPLOADER_AUTHORITIES_H

#include <limits.h>

struct authorities {
    char file[PATH_MAX]; /* PEM; "" none */
    char dir[PATH_MAX];  /* with hashed links; "" none */
    char text[512];      /* for people */
};

/* `configured` may be NULL: a file or a folder. Never fails: what cannot be read is said by whoever opens it. */
void authorities_find(struct authorities *ret, const char *configured);

#endif
