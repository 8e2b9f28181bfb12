/* url.h - addresses as people write them into the configuration: http(s)://[user[:password]@]host[:port][/path][?name=value&…].
 *
 * Strict: no other scheme, no fragment, no control characters or blanks. Plain values, no state. */
#ifndef PILLION_UPLOADER_URL_H
#define PILLION_UPLOADER_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct url {
    bool tls;
    uint16_t port;
    char *host;     /* owned, as all: a name, an IPv4 address, or an IPv6 address in brackets */
    char *user;     /* decoded; NULL without */
    char *password; /* decoded; NULL without */
    char *path;     /* "" or "/…", without a slash at its end */
    char *query;    /* as written, without '?'; NULL without */
};

#define URL_SHOW_BYTES 512

/* -EINVAL, -ENOMEM; *ret is then empty. Call url_clear() after success. */
int url_parse(struct url *ret, const char *text);
void url_clear(struct url *u);
/* scheme://host:port + path; neither user nor password nor query: for requests, status and log. The port is left out when it is the
 * scheme's own. -ENAMETOOLONG when it does not fit. */
int url_format(const struct url *u, const char *path, char *out, size_t size);
/* The decoded value of a parameter of the query: 0, -ENOENT, -ENAMETOOLONG, -EINVAL. */
int url_parameter(const struct url *u, const char *name, char *out, size_t size);
/* -EINVAL with its name in `bad` when the query has one that is not in `known` (NULL-terminated). */
int url_check_parameters(const struct url *u, const char *const *known, char *bad, size_t size);

#endif
