/* Frames: whatever the bytes and however they are cut, the same frames come out as in one piece, and no reader holds more than
 * LIMIT_FRAME_BYTES. First byte of the input: the size of the pieces. */
#include "ipc/frame.h"

#include <stdint.h>

#include "agent/base/mem.h"

struct seen {
    uint64_t frames;
    uint64_t sum;
};

static int note(void *arg, uint8_t type, const uint8_t *payload, size_t len) {
    struct seen *s = arg;

    s->frames++;
    s->sum = s->sum * 31 + type + len;
    for (size_t i = 0; i < len; i++)
        s->sum = s->sum * 31 + payload[i];
    return 0;
}

static int read_in_pieces(const uint8_t *data, size_t size, size_t piece, struct seen *seen,
                          bool *ret_pending) {
    struct frame_reader r;
    int rc = 0;

    frame_reader_init(&r);
    for (size_t at = 0; rc == 0 && at < size; at += piece) {
        rc = frame_feed(&r, data + at, size - at < piece ? size - at : piece, note, seen);
        if (r.cap > FRAME_PAYLOAD_BYTES || (!frame_pending(&r) && r.payload != NULL))
            __builtin_trap();
    }
    *ret_pending = rc == 0 && frame_pending(&r);
    frame_reader_clear(&r);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct seen whole = {0}, pieces = {0};
    bool pending_whole, pending_pieces;
    size_t piece;

    if (size < 2)
        return 0;
    piece = data[0] + 1u;
    data++;
    size--;
    if (read_in_pieces(data, size, size, &whole, &pending_whole) !=
            read_in_pieces(data, size, piece, &pieces, &pending_pieces) ||
        whole.frames != pieces.frames || whole.sum != pieces.sum ||
        pending_whole != pending_pieces || mem_live() != 0)
        __builtin_trap();
    return 0;
}
