/* WebSocket frames of a server: whatever the bytes and however they are cut, the same messages come out as in one piece.
 * First byte of the input: the size of the pieces. */
#include "collectors/capture/websocket.h"

#include <stdint.h>

#include "agent/base/mem.h"

struct seen {
    uint64_t messages, sum;
};

static int on_data(void *arg, const char *data, size_t len, bool last) {
    struct seen *s = arg;

    for (size_t i = 0; i < len; i++)
        s->sum = s->sum * 31 + (uint8_t)data[i];
    if (last)
        s->sum = s->sum * 31 + ++s->messages;
    return 0;
}

static int on_control(void *arg, enum websocket_opcode opcode, const char *data, size_t len) {
    struct seen *s = arg;

    if (len > WEBSOCKET_CONTROL_BYTES)
        __builtin_trap();
    s->sum = s->sum * 31 + (uint64_t)opcode;
    return on_data(arg, data, len, true);
}

static int read_in_pieces(const uint8_t *data, size_t size, size_t piece, struct seen *seen) {
    static const struct websocket_callbacks CALLBACKS = {on_data, on_control};
    struct websocket_reader r;
    int rc = 0;

    websocket_reader_init(&r);
    for (size_t at = 0; rc == 0 && at < size; at += piece)
        rc = websocket_push(&r, data + at, size - at < piece ? size - at : piece, &CALLBACKS, seen);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct seen whole = {0}, pieces = {0};

    if (size < 2)
        return 0;
    if (read_in_pieces(data + 1, size - 1, size - 1, &whole) !=
            read_in_pieces(data + 1, size - 1, data[0] + 1u, &pieces) ||
        whole.messages != pieces.messages || whole.sum != pieces.sum || mem_live() != 0)
        __builtin_trap();
    return 0;
}
