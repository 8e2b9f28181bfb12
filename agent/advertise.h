/* advertise.h - the address under which others reach this container: as given (PILLION_ADVERTISE), else as the environment says
 * (POD_IP, which Kubernetes' downward API fills where it is asked to), else the one that this machine uses on the way to the
 * registry, else on the way out. Nothing is sent and no name is looked up for it: a UDP socket that is connected knows its route. */
#ifndef PILLION_ADVERTISE_H
#define PILLION_ADVERTISE_H

#include <stdint.h>

#define ADVERTISE_BYTES 254 /* of a host name, with its NUL */

struct advertise {
    char host[ADVERTISE_BYTES]; /* IP address without brackets, or name; "": to be found */
    uint16_t port;              /* 0: not given */
};

/* `found`, HOST, HOST:PORT, [IPv6]:PORT, IPv6, :PORT. -EINVAL; *ret is written only on success. */
int advertise_parse(struct advertise *ret, const char *text);
/* Is it an IP address by which nobody else reaches us: loopback, or unspecified? */
int advertise_is_local(const char *ip);
/* Our address on the way to `ip` (NULL: to anywhere). -ENETUNREACH and the like; -EINVAL: no IP address. */
int advertise_route(char out[ADVERTISE_BYTES], const char *ip);
/* All of the above in order. `pod_ip` and `registry` (IP address, or name, or NULL) may be NULL. Never fails: "" when nothing was
 * found. */
void advertise_find(char out[ADVERTISE_BYTES], const struct advertise *given, const char *pod_ip,
                    const char *registry);

#endif
