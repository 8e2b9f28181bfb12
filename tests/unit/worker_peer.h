/* worker_peer.h - the worker's side of ipc/PROTOCOL.md for tests and benches in C: frames made, sockets connected. */
#ifndef PILLION_TESTS_WORKER_PEER_H
#define PILLION_TESTS_WORKER_PEER_H

#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/frame.h"

/* A gauge, a counter, a histogram of two buckets and the rest: 1 + 1 + 4 slots. */
#define PEER_SLOTS 6
#define PEER_FIELDS                                                                                \
    "\"fields\":[{\"name\":\"g\",\"unit\":\"1\",\"kind\":\"gauge\"},"                              \
    "{\"name\":\"c\",\"unit\":\"1\",\"kind\":\"counter\"},"                                        \
    "{\"name\":\"h\",\"unit\":\"s\",\"kind\":\"histogram\",\"bounds\":[1,2]}]"

static inline size_t peer_frame(uint8_t *out, uint8_t type, const void *payload, size_t len) {
    frame_put_header(out, type, (uint32_t)len);
    memcpy(out + FRAME_HEADER_BYTES, payload, len);
    return FRAME_HEADER_BYTES + len;
}

static inline size_t peer_hello(uint8_t *out, size_t size, int pid) {
    char json[512];
    int n = snprintf(json, sizeof(json),
                     "{\"protocol\":[1],\"pid\":%d,\"start\":1,\"next\":1," PEER_FIELDS "}", pid);

    return n > 0 && (size_t)n + FRAME_HEADER_BYTES <= size
               ? peer_frame(out, FRAME_HELLO, json, (size_t)n)
               : 0;
}

static inline size_t peer_sample(uint8_t *out, uint64_t number, double clock_s, const double *slots,
                                 size_t n) {
    uint64_t bits;

    frame_put_header(out, FRAME_SAMPLE, (uint32_t)(16 + 8 * n));
    frame_put_u64(out + 8, number);
    memcpy(&bits, &clock_s, sizeof(bits));
    frame_put_u64(out + 16, bits);
    for (size_t i = 0; i < n; i++) {
        memcpy(&bits, &slots[i], sizeof(bits));
        frame_put_u64(out + 24 + 8 * i, bits);
    }
    return 24 + 8 * n;
}

/* A connected blocking socket or a negative errno. */
static inline int peer_connect(const char *path) {
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), rc;

    if (fd < 0)
        return -errno;
    memcpy(sa.sun_path, path, strnlen(path, sizeof(sa.sun_path) - 1));
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) == 0)
        return fd;
    rc = -errno;
    (void)close(fd);
    return rc;
}

#endif
