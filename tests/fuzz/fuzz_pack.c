/* Packed batches, both ways: the first byte says which. Any bytes taken for a packed batch: it ends, within the length
 * that its head allows. Any text as the lines of a batch: packed and unpacked it is the same text. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "agent/base/mem.h"
#include "uploader/spool/pack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAW_MOST 65536

static void read_any(const uint8_t *data, size_t size) {
    struct unpack *u = NULL;
    const char *line;
    size_t len, all = 0;
    int rc = unpack_open(&u, data, size, RAW_MOST);

    if (rc == 0) {
        while ((rc = unpack_next(u, &line, &len)) == 1) {
            assert(len > 0 && line[len - 1] == '\n');
            all += len;
            assert(all <= RAW_MOST);
        }
        assert(rc == 0 || rc == -EBADMSG);
        unpack_close(u);
    }
    assert(mem_live() == 0);
}

static void add_lines(struct batch_writer *w, const char *text, size_t size) {
    while (size > 0) {
        const char *end = memchr(text, '\n', size);
        size_t len = end != NULL ? (size_t)(end - text) : size;

        assert(batch_writer_add(w, text, len) == 0);
        text += len + (end != NULL);
        size -= len + (end != NULL);
    }
}

static void there_and_back(const uint8_t *data, size_t size) {
    struct batch_writer *w;
    struct batch *b;
    struct buf out;

    if (size == 0)
        return;
    assert(batch_writer_new(&w, "app", "instance", "boot") == 0);
    assert(batch_writer_begin(w, 1) == 0);
    add_lines(w, (const char *)data, size);
    assert(batch_writer_finish(w, &b) == 0);
    batch_writer_free(w);
    buf_init(&out, 64u << 20);
    assert(pack_batch(&out, b) == 0);
    assert(pack_holds(out.data, out.len, b));
    buf_clear(&out);
    batch_unref(b);
    assert(mem_live() == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    if (data[0] % 2 == 0)
        read_any(data + 1, size - 1);
    else
        there_and_back(data + 1, size - 1);
    return 0;
}
