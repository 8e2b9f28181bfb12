/* Heap snapshots, whatever is in them: in one piece or byte by byte the verdict is the same, and what is taken for whole adds up. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "collectors/heapsnapshot/diff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct heapsnapshot *take(const uint8_t *data, size_t size, size_t piece, int *ret_rc) {
    struct heapsnapshot *h;
    int rc = 0;

    if (heapsnapshot_new(&h) != 0)
        return NULL;
    for (size_t i = 0; i < size && rc == 0; i += piece)
        rc = heapsnapshot_push(h, (const char *)data + i, size - i < piece ? size - i : piece);
    *ret_rc = rc == 0 ? heapsnapshot_end(h) : rc;
    return h;
}

static void check_sums(const struct heapsnapshot_summary *s) {
    uint64_t count = 0, bytes = 0;

    for (size_t i = 0; i < s->n_classes; i++) {
        count += s->classes[i].count;
        bytes += s->classes[i].bytes;
        assert(s->classes[i].name != NULL);
    }
    assert(count == s->total.count && bytes == s->total.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int rc_whole = 0, rc_bytes = 0;
    struct heapsnapshot *whole = take(data, size, size + 1, &rc_whole);
    struct heapsnapshot *bytes = take(data, size, 1, &rc_bytes);
    struct heapsnapshot_change *rows;
    struct buf out;
    size_t n;

    if (whole != NULL && bytes != NULL) {
        assert(rc_whole == rc_bytes);
        assert((rc_whole == 0) == (heapsnapshot_summary(whole) != NULL));
        if (rc_whole != 0) {
            assert(heapsnapshot_error(whole)[0] != '\0');
        } else {
            check_sums(heapsnapshot_summary(whole));
            buf_init(&out, 1 << 20);
            heapsnapshot_json(heapsnapshot_summary(whole), 0, &out);
            assert(out.err == 0);
            buf_clear(&out);
            assert(heapsnapshot_diff(heapsnapshot_summary(whole), heapsnapshot_summary(bytes),
                                     &rows, &n) == 0);
            assert(n == 0);
            mem_free(rows);
        }
    }
    heapsnapshot_free(whole);
    heapsnapshot_free(bytes);
    return 0;
}
