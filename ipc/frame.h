/* frame.h - frames of ipc/PROTOCOL.md cut out of a byte stream. Plain value, no I/O, no clock.
 *
 * Whole frames are handed over where they lie in the caller's buffer; only the rest of a frame that is not whole yet is copied.
 * A header is checked before anything is allocated for its payload. An idle reader owns no memory; one in the middle of a
 * frame owns less than twice what has come of it, and never more than LIMIT_FRAME_BYTES. */
#ifndef PILLION_FRAME_H
#define PILLION_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/base/limits.h"

#define FRAME_HEADER_BYTES  8
#define FRAME_PAYLOAD_BYTES (LIMIT_FRAME_BYTES - FRAME_HEADER_BYTES)

enum frame_type {
    FRAME_HELLO = 0x01,
    FRAME_SAMPLE = 0x02,
    FRAME_EVENT = 0x03,
    FRAME_BEAT = 0x04,
    FRAME_ANSWER = 0x05,
    FRAME_WELCOME = 0x81,
    FRAME_ACK = 0x82,
    FRAME_LATER = 0x83,
    FRAME_REFUSED = 0x84,
    FRAME_ORDER = 0x85
};

struct frame_reader {
    uint8_t header[FRAME_HEADER_BYTES]; /* of the frame that has begun */
    uint8_t *payload;                   /* owned; what has come of it */
    uint32_t cap;                       /* of payload */
    uint32_t have;                      /* bytes of the frame so far, header included */
};

/* `payload` lives during the call and is not aligned. Anything but 0 ends frame_feed() with this value. The reader must not be
 * cleared from inside. */
typedef int (*frame_cb)(void *arg, uint8_t type, const uint8_t *payload, size_t len);

void frame_reader_init(struct frame_reader *r);
void frame_reader_clear(struct frame_reader *r);

/* Takes all of `data`. 0, or what the callback returned, or -EMSGSIZE (a length of 0 or beyond FRAME_PAYLOAD_BYTES), or
 * -ENOMEM. After anything but 0 the stream cannot be read on: clear the reader. */
int frame_feed(struct frame_reader *r, const uint8_t *data, size_t len, frame_cb cb, void *arg);

/* A frame has begun that is not whole yet. */
bool frame_pending(const struct frame_reader *r);

void frame_put_header(uint8_t out[FRAME_HEADER_BYTES], uint8_t type, uint32_t payload_len);

/* Numbers of the wire: little endian, not aligned. */
uint64_t frame_get_u64(const uint8_t *p);
double frame_get_f64(const uint8_t *p);
void frame_put_u64(uint8_t *p, uint64_t v);

#endif
