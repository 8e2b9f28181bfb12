/* fake_broker.h - a broker on a thread that does what a script says, good and bad: as much of AMQP 0-9-1 as a publisher meets. */
#ifndef PILLION_TEST_FAKE_BROKER_H
#define PILLION_TEST_FAKE_BROKER_H

#include <endian.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum fake {
    FAKE_END,      /* of a script: the one before it goes on for ever */
    FAKE_ACK,      /* as it should be */
    FAKE_SILENT,   /* takes the connection and says nothing */
    FAKE_GARBAGE,  /* answers what is no AMQP */
    FAKE_HUGE,     /* a frame whose length is beyond everything */
    FAKE_REFUSED,  /* access refused at the login */
    FAKE_CUT,      /* cuts before the ack */
    FAKE_MUTE,     /* takes the message and never confirms */
    FAKE_NACK,     /* once, then acks */
    FAKE_RETURNED, /* gives each back, then acks it */
    FAKE_NOISE,    /* garbage in place of the ack */
    FAKE_BLOCKED,  /* blocked until `released`, then acks */
    FAKE_CLOSED    /* the exchange is not there */
};

static struct {
    int fd;
    uint16_t port;
    pthread_t thread;
    const enum fake *script;
    atomic_bool over, released;
    atomic_int connections, messages;
    char body[1024], header[1024]; /* of the last message */
    size_t header_len;
} fake;

static inline void fake_frame(int fd, int channel, const void *payload, size_t len) {
    unsigned char out[512] = {1, (unsigned char)(channel >> 8), (unsigned char)channel};
    uint32_t size = htobe32((uint32_t)len);

    memcpy(out + 3, &size, 4);
    memcpy(out + 7, payload, len);
    out[7 + len] = 0xCE;
    (void)!send(fd, out, len + 8, MSG_NOSIGNAL);
}

#define FAKE_SEND(fd, channel, bytes) fake_frame(fd, channel, bytes, sizeof(bytes) - 1)

static inline void fake_confirm(int fd, const char *method, uint64_t tag) {
    unsigned char m[13] = {0};

    memcpy(m, method, 4);
    tag = htobe64(tag);
    memcpy(m + 4, &tag, 8);
    fake_frame(fd, 1, m, sizeof(m));
}

/* All n bytes; false: gone, or the test is over. */
static inline bool fake_read(int fd, void *out, size_t n) {
    char *p = out;

    while (n > 0) {
        struct pollfd w = {.fd = fd, .events = POLLIN};
        ssize_t got;

        if (fake.over)
            return false;
        if (poll(&w, 1, 20) <= 0)
            continue;
        got = read(fd, p, n);
        if (got <= 0)
            return false;
        p += got;
        n -= (size_t)got;
    }
    return true;
}

static inline void fake_wait(int fd) {
    char byte;

    while (fake_read(fd, &byte, 1))
        ;
}

/* A message is whole. false: the connection ends. */
static inline bool fake_message(int fd, enum fake what, uint64_t tag) {
    static const char returned[] = "\0\x3c\0\x32\x01\x38\x08NO_ROUTE\0\x01q";
    static const char back[] = "\0\x3c\0\0\0\0\0\0\0\0\0\0\0\0";

    fake.messages++;
    switch (what) {
    case FAKE_CUT:
        return false;
    case FAKE_MUTE:
        fake_wait(fd);
        return false;
    case FAKE_NACK:
        fake_confirm(fd, fake.messages == 1 ? "\0\x3c\0\x78" : "\0\x3c\0\x50", tag);
        return true;
    case FAKE_RETURNED: {
        unsigned char header[sizeof(back) - 1 + 8] = {2, 0, 1, 0, 0, 0, sizeof(back) - 1};

        FAKE_SEND(fd, 1, returned);
        memcpy(header + 7, back, sizeof(back) - 1);
        header[sizeof(header) - 1] = 0xCE;
        (void)!send(fd, header, sizeof(header), MSG_NOSIGNAL);
        break;
    }
    case FAKE_NOISE:
        (void)!send(fd, "\x01\0\x01\0\0\0\x04zzzzzzzzzzzzzzzzzzz", 26, MSG_NOSIGNAL);
        fake_wait(fd);
        return false;
    case FAKE_BLOCKED:
        FAKE_SEND(fd, 0, "\0\x0a\0\x3c\x0dlow on memory");
        while (!fake.released && !fake.over)
            (void)poll(NULL, 0, 10);
        FAKE_SEND(fd, 0, "\0\x0a\0\x3d");
        break;
    case FAKE_CLOSED:
        FAKE_SEND(fd, 1, "\0\x14\0\x28\x01\x94\x09NOT_FOUND\0\x3c\0\x28");
        fake_wait(fd);
        return false;
    default:
        break;
    }
    fake_confirm(fd, "\0\x3c\0\x50", tag);
    return true;
}

/* The answers up to the messages. false: the connection ends. */
static inline bool fake_method(int fd, enum fake what, unsigned id) {
    switch (id) {
    case 10u << 16 | 11: /* start-ok */
        if (what == FAKE_REFUSED) {
            FAKE_SEND(fd, 0,
                      "\0\x0a\0\x32\x01\x93\x0e"
                      "ACCESS_REFUSED\0\0\0\0");
            return true;
        }
        FAKE_SEND(fd, 0, "\0\x0a\0\x1e\x07\xff\0\x02\0\0\0\x14");
        return true;
    case 10u << 16 | 40: /* open */
        FAKE_SEND(fd, 0, "\0\x0a\0\x29\0");
        return true;
    case 20u << 16 | 10: /* channel.open */
        FAKE_SEND(fd, 1, "\0\x14\0\x0b\0\0\0\0");
        return true;
    case 85u << 16 | 10: /* confirm.select */
        FAKE_SEND(fd, 1, "\0\x55\0\x0b");
        return true;
    case 10u << 16 | 50: /* close */
        FAKE_SEND(fd, 0, "\0\x0a\0\x33");
        return false;
    default:
        return true;
    }
}

static inline void fake_serve(int fd, enum fake what) {
    static const char start[] = "\0\x0a\0\x0a\0\x09\0\0\0\0\0\0\0\x05PLAIN\0\0\0\x05"
                                "en_US";
    unsigned char head[8], payload[70000];
    uint64_t tag = 0;
    uint32_t size;

    if (what == FAKE_SILENT) {
        fake_wait(fd);
        return;
    }
    if (!fake_read(fd, head, 8) || memcmp(head, "AMQP\0\0\x09\x01", 8) != 0)
        return;
    if (what == FAKE_GARBAGE) {
        (void)!send(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28, MSG_NOSIGNAL);
        fake_wait(fd);
        return;
    }
    if (what == FAKE_HUGE) {
        (void)!send(fd, "\x01\0\0\xff\xff\xff\xff\0\0\0", 10, MSG_NOSIGNAL);
        fake_wait(fd);
        return;
    }
    FAKE_SEND(fd, 0, start);
    while (fake_read(fd, head, 7)) {
        memcpy(&size, head + 3, 4);
        size = be32toh(size);
        if (size >= sizeof(payload) || !fake_read(fd, payload, size + 1))
            return;
        if (head[0] == 1 && !fake_method(fd, what,
                                         (unsigned)payload[0] << 24 | (unsigned)payload[1] << 16 |
                                             (unsigned)payload[2] << 8 | payload[3]))
            return;
        if (head[0] == 2) {
            fake.header_len = size < sizeof(fake.header) ? size : sizeof(fake.header);
            memcpy(fake.header, payload, fake.header_len);
        }
        if (head[0] == 3) {
            payload[size] = '\0';
            memcpy(fake.body, payload, sizeof(fake.body) - 1); /* is long enough */
            if (!fake_message(fd, what, ++tag))
                return;
        }
    }
}

static inline void *fake_main(void *arg) {
    const enum fake *what = fake.script;
    (void)arg;

    while (!fake.over) {
        struct pollfd w = {.fd = fake.fd, .events = POLLIN};
        int fd = poll(&w, 1, 20) > 0 ? accept(fake.fd, NULL, NULL) : -1;

        if (fd < 0)
            continue;
        fake.connections++;
        fake_serve(fd, *what);
        close(fd);
        if (what[1] != FAKE_END)
            what++;
    }
    return NULL;
}

static inline void fake_start(const enum fake *script) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);

    memset(&fake, 0, sizeof(fake));
    fake.script = script;
    fake.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fake.fd >= 0);
    assert_int_equal(bind(fake.fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fake.fd, 16), 0);
    assert_int_equal(getsockname(fake.fd, (struct sockaddr *)&a, &len), 0);
    fake.port = ntohs(a.sin_port);
    assert_int_equal(pthread_create(&fake.thread, NULL, fake_main, NULL), 0);
}

static inline void fake_stop(void) {
    fake.over = true;
    (void)pthread_join(fake.thread, NULL);
    close(fake.fd);
}

#endif
