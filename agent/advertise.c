#include "agent/advertise.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "agent/base/mem.h"
#include "agent/base/text.h"

/* Addresses of documentation (RFC 5737, RFC 3849): nothing is there, and the route to them is the way out. */
static const char *const anywhere[] = {"192.0.2.1", "2001:db8::1"};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* --- as given --- */

static bool is_name(const char *s) {
    size_t len = strlen(s);

    if (len == 0 || s[0] == '-' || s[0] == '.')
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)s[i]) && strchr("-._", s[i]) == NULL)
            return false;
    return true;
}

static bool is_v6(const char *s) {
    struct in6_addr ip;

    return inet_pton(AF_INET6, s, &ip) == 1;
}

static bool fitting(const struct advertise *a, bool brackets) {
    if (brackets)
        return is_v6(a->host);
    if (a->host[0] == '\0')
        return a->port != 0;
    return is_v6(a->host) || is_name(a->host);
}

int advertise_parse(struct advertise *ret, const char *text) {
    const char *end = text + strlen(text), *port = NULL;
    struct advertise a = {.port = 0};
    bool brackets = text[0] == '[';
    uint64_t n = 0;

    if (strcmp(text, "found") == 0) {
        *ret = a;
        return 0;
    }
    if (brackets) {
        end = strchr(++text, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return -EINVAL;
        port = end[1] == ':' ? end + 2 : NULL;
    } else if (!is_v6(text) && (port = strrchr(text, ':')) != NULL) {
        end = port++;
    }
    if (port != NULL && (text_u64(port, &n) != 0 || n < 1 || n > UINT16_MAX))
        return -EINVAL;
    if ((size_t)(end - text) >= sizeof(a.host))
        return -EINVAL;
    memcpy(a.host, text, (size_t)(end - text));
    a.port = (uint16_t)n;
    if (!fitting(&a, brackets))
        return -EINVAL;
    *ret = a;
    return 0;
}

/* --- as found --- */

static bool make(union address *to, socklen_t *ret_len, const char *ip) {
    memset(to, 0, sizeof(*to));
    if (inet_pton(AF_INET, ip, &to->v4.sin_addr) == 1) {
        to->v4.sin_family = AF_INET;
        to->v4.sin_port = htons(9);
        *ret_len = sizeof(to->v4);
        return true;
    }
    memset(to, 0, sizeof(*to));
    to->v6.sin6_family = AF_INET6;
    to->v6.sin6_port = htons(9);
    *ret_len = sizeof(to->v6);
    return inet_pton(AF_INET6, ip, &to->v6.sin6_addr) == 1;
}

static int show(char out[ADVERTISE_BYTES], const union address *a) {
    const void *ip = a->any.sa_family == AF_INET ? (const void *)&a->v4.sin_addr
                                                 : (const void *)&a->v6.sin6_addr;

    return inet_ntop(a->any.sa_family, ip, out, ADVERTISE_BYTES) != NULL ? 0 : -errno;
}

int advertise_is_local(const char *ip) {
    union address a;
    socklen_t len;

    if (!make(&a, &len, ip))
        return 0;
    if (a.any.sa_family == AF_INET)
        return ntohl(a.v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET || a.v4.sin_addr.s_addr == 0;
    return IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr) || IN6_IS_ADDR_UNSPECIFIED(&a.v6.sin6_addr) ||
           IN6_IS_ADDR_LINKLOCAL(&a.v6.sin6_addr);
}

int advertise_route(char out[ADVERTISE_BYTES], const char *ip) {
    union address to, from;
    socklen_t len;
    int fd, rc = 0;

    if (ip == NULL) {
        rc = advertise_route(out, anywhere[0]);
        return rc == 0 ? 0 : advertise_route(out, anywhere[1]);
    }
    if (!make(&to, &len, ip))
        return -EINVAL;
    fd = socket(to.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, &to.any, len) != 0)
        rc = -errno;
    len = sizeof(from);
    if (rc == 0 && getsockname(fd, &from.any, &len) != 0)
        rc = -errno;
    close(fd);
    return rc == 0 ? show(out, &from) : rc;
}

/* A container on an inner network has an address and no way out. IPv4 first: it is what most registries are asked over. */
static bool first_interface(char out[ADVERTISE_BYTES]) {
    struct ifaddrs *all = NULL;
    bool found = false;

    if (getifaddrs(&all) != 0)
        return false;
    for (int family = AF_INET; !found && family != 0; family = family == AF_INET ? AF_INET6 : 0) {
        for (const struct ifaddrs *i = all; !found && i != NULL; i = i->ifa_next) {
            union address a;

            if (i->ifa_addr == NULL || i->ifa_addr->sa_family != family || !(i->ifa_flags & IFF_UP))
                continue;
            memcpy(&a, i->ifa_addr, family == AF_INET ? sizeof(a.v4) : sizeof(a.v6));
            found = show(out, &a) == 0 && !advertise_is_local(out);
        }
    }
    freeifaddrs(all);
    return found;
}

void advertise_find(char out[ADVERTISE_BYTES], const struct advertise *given, const char *pod_ip,
                    const char *registry) {
    union address a;
    socklen_t len;

    if (given->host[0] != '\0') {
        memcpy(out, given->host, ADVERTISE_BYTES);
        return;
    }
    if (pod_ip != NULL && make(&a, &len, pod_ip) && !advertise_is_local(pod_ip)) {
        (void)text_copy(out, ADVERTISE_BYTES, pod_ip); /* an IP address fits */
        return;
    }
    if (registry != NULL && advertise_route(out, registry) == 0 && !advertise_is_local(out))
        return;
    if (advertise_route(out, NULL) == 0 && !advertise_is_local(out))
        return;
    if (!first_interface(out))
        out[0] = '\0';
}
