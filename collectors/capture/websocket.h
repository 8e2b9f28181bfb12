/* websocket.h - the client's half of RFC 6455 without its I/O: frames of a server taken apart as they stream by, heads of our own
 * made. No extensions. No allocation. */
#ifndef PILLION_CAPTURE_WEBSOCKET_H
#define PILLION_CAPTURE_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEBSOCKET_HEAD_BYTES    14
#define WEBSOCKET_CONTROL_BYTES 125
#define WEBSOCKET_KEY_BYTES     25 /* with its NUL */
#define WEBSOCKET_ACCEPT_BYTES  29 /* with its NUL */

enum websocket_opcode {
    WEBSOCKET_CONTINUATION = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10,
};

/* Each returns 0, or a negative errno, which ends websocket_push() and is its result. */
struct websocket_callbacks {
    /* A piece of a text or binary message; `last`: the message ends with it (len may be 0). */
    int (*data)(void *arg, const char *data, size_t len, bool last);
    /* A ping, pong or close, whole. */
    int (*control)(void *arg, enum websocket_opcode opcode, const char *data, size_t len);
};

struct websocket_reader {
    uint64_t left; /* of the payload */
    uint8_t head[10];
    uint8_t have, need; /* of the head */
    uint8_t opcode;
    bool fin, in_payload, in_message;
    char control[WEBSOCKET_CONTROL_BYTES];
    uint8_t control_len;
};

void websocket_reader_init(struct websocket_reader *r);
/* -EPROTO: this is no WebSocket server, or one that uses what was not agreed; nothing more may be pushed. */
int websocket_push(struct websocket_reader *r, const void *data, size_t len,
                   const struct websocket_callbacks *callbacks, void *arg);

/* The head of a frame of ours with a payload of `len` bytes; returns its length. */
size_t websocket_head(uint8_t out[WEBSOCKET_HEAD_BYTES], enum websocket_opcode opcode, uint64_t len,
                      const uint8_t mask[4]);
void websocket_mask(char *data, size_t len, const uint8_t mask[4]);
/* Key of a handshake from 16 random bytes, and what the server has to answer to it. -ENOMEM. */
int websocket_key(const uint8_t random[16], char ret_key[WEBSOCKET_KEY_BYTES],
                  char ret_accept[WEBSOCKET_ACCEPT_BYTES]);

#endif
