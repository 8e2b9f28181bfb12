/* websocket.c - see websocket.h. RFC 6455 section 5 (framing) and 4.1 (the key). */
#include "collectors/capture/websocket.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/mem.h"

void websocket_reader_init(struct websocket_reader *r) {
    memset(r, 0, sizeof(*r));
    r->need = 2;
}

/* The first two bytes say how long the head is. */
static int read_first(struct websocket_reader *r) {
    unsigned len = r->head[1] & 0x7f;

    r->fin = (r->head[0] & 0x80) != 0;
    r->opcode = r->head[0] & 0x0f;
    if ((r->head[0] & 0x70) != 0) /* an extension */
        return -EPROTO;
    if ((r->head[1] & 0x80) != 0) /* a server does not mask */
        return -EPROTO;
    if (r->opcode >= WEBSOCKET_CLOSE) {
        if (r->opcode > WEBSOCKET_PONG || !r->fin || len > WEBSOCKET_CONTROL_BYTES)
            return -EPROTO;
    } else if (r->opcode > WEBSOCKET_BINARY ||
               r->in_message != (r->opcode == WEBSOCKET_CONTINUATION)) {
        return -EPROTO;
    }
    r->need = (uint8_t)(len < 126 ? 2 : len == 126 ? 4 : 10);
    return 0;
}

static int read_length(struct websocket_reader *r) {
    uint64_t len = r->head[1] & 0x7f;

    if (r->need > 2) {
        len = 0;
        for (unsigned i = 2; i < r->need; i++)
            len = len << 8 | r->head[i];
    }
    if (len > INT64_MAX) /* the first bit must be 0 */
        return -EPROTO;
    r->left = len;
    r->control_len = 0;
    r->in_payload = true;
    r->have = 0;
    return 0;
}

static int take_head(struct websocket_reader *r, uint8_t byte) {
    int rc = 0;

    r->head[r->have++] = byte;
    if (r->have == 2)
        rc = read_first(r);
    if (rc == 0 && r->have >= 2 && r->have == r->need)
        rc = read_length(r);
    return rc;
}

/* `n` bytes of the payload; the frame may end with them. */
static int take_payload(struct websocket_reader *r, const char *data, size_t n,
                        const struct websocket_callbacks *callbacks, void *arg) {
    int rc = 0;

    r->left -= n;
    if (r->opcode >= WEBSOCKET_CLOSE) {
        memcpy(r->control + r->control_len, data, n);
        r->control_len = (uint8_t)(r->control_len + n);
        if (r->left == 0)
            rc = callbacks->control(arg, (enum websocket_opcode)r->opcode, r->control,
                                    r->control_len);
    } else {
        bool last = r->left == 0 && r->fin;

        r->in_message = !last;
        if (n > 0 || last)
            rc = callbacks->data(arg, data, n, last);
    }
    if (r->left == 0) {
        r->in_payload = false;
        r->need = 2;
    }
    return rc;
}

int websocket_push(struct websocket_reader *r, const void *data, size_t len,
                   const struct websocket_callbacks *callbacks, void *arg) {
    const char *at = data, *end = at + len;
    int rc = 0;

    while (rc == 0 && at < end) {
        if (!r->in_payload) {
            rc = take_head(r, (uint8_t)*at++);
            if (rc == 0 && r->in_payload && r->left == 0)
                rc = take_payload(r, at, 0, callbacks, arg);
        } else {
            size_t n = (size_t)(end - at);

            if (n > r->left)
                n = (size_t)r->left;
            rc = take_payload(r, at, n, callbacks, arg);
            at += n;
        }
    }
    return rc;
}

size_t websocket_head(uint8_t out[WEBSOCKET_HEAD_BYTES], enum websocket_opcode opcode, uint64_t len,
                      const uint8_t mask[4]) {
    unsigned extra = len < 126 ? 0 : len <= UINT16_MAX ? 2 : 8;

    out[0] = (uint8_t)(0x80U | (unsigned)opcode);
    out[1] = (uint8_t)(0x80U | (extra == 0 ? (unsigned)len : extra == 2 ? 126U : 127U));
    for (unsigned i = 0; i < extra; i++)
        out[2 + i] = (uint8_t)(len >> (8 * (extra - 1 - i)));
    memcpy(out + 2 + extra, mask, 4);
    return 2 + extra + 4;
}

void websocket_mask(char *data, size_t len, const uint8_t mask[4]) {
    for (size_t i = 0; i < len; i++)
        data[i] = (char)(data[i] ^ (char)mask[i % 4]);
}

int websocket_key(const uint8_t random[16], char ret_key[WEBSOCKET_KEY_BYTES],
                  char ret_accept[WEBSOCKET_ACCEPT_BYTES]) {
    char text[WEBSOCKET_KEY_BYTES + 40];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    int len;

    (void)EVP_EncodeBlock((unsigned char *)ret_key, random, 16);
    len = snprintf(text, sizeof(text), "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", ret_key);
    if (EVP_Digest(text, (size_t)len, digest, &n, EVP_sha1(), NULL) != 1 || n != 20)
        return -ENOMEM;
    (void)EVP_EncodeBlock((unsigned char *)ret_accept, digest, 20);
    return 0;
}
