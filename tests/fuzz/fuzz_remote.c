/* What remote sinks read: records of a batch (first byte 0: as documents and as OTLP), the answer of _bulk (1), of a collector (2),
 * a whole batch (3). */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "uploader/records.h"
#include "uploader/sinks/bulk.h"
#include "uploader/sinks/elasticsearch.h"
#include "uploader/sinks/otlp_write.h"
#include "uploader/sinks/protobuf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void one_record(const char *text, size_t len) {
    static const struct otlp_clock clock = {1, 2, 10000000};
    static const struct records_head head = {.app = (char *)(uintptr_t) "a",
                                             .instance = (char *)(uintptr_t) "i"};
    char field[64], value[64];
    const char *p = NULL;
    struct member m;
    struct buf out;
    double number;
    int rc;

    while ((rc = member_next(text, len, &p, &m)) == 1) {
        assert(m.value_len > 0 && m.value + m.value_len <= text + len);
        elasticsearch_field(m.key, m.key_len, field, sizeof(field));
        assert(strchr(field, '.') == NULL);
        (void)member_text(&m, value, sizeof(value));
        (void)member_number(&m, &number);
    }
    buf_init(&out, 1 << 20);
    if (otlp_is_event(text, len))
        (void)otlp_write_log(&out, &head, &clock, text, len);
    else
        (void)otlp_write_metrics(&out, &head, &clock, text, len);
    buf_clear(&out);
}

static void on_item(void *arg, const struct bulk_item *item) {
    assert(item->index == (*(unsigned *)arg)++);
    assert(item->status >= 0 && item->status < 1000);
}

static void one_answer(const char *text, size_t len) {
    unsigned a = 0, b = 0;
    struct bulk whole, pieces;

    bulk_begin(&whole, on_item, &a);
    (void)bulk_feed(&whole, text, len);
    bulk_begin(&pieces, on_item, &b);
    for (size_t i = 0; i < len; i++)
        (void)bulk_feed(&pieces, text + i, 1);
    assert(a == b && bulk_complete(&whole) == bulk_complete(&pieces));
}

static void one_message(const char *text, size_t len, int depth) {
    const char *p = text;
    struct pb_field f;

    while (pb_next(&p, text + len, &f) == 1)
        if (f.data != NULL && depth < 10)
            one_message(f.data, f.len, depth + 1);
}

static void one_batch(const char *data, size_t len) {
    const struct batch b = {.data = data, .len = len};
    struct records *r;
    size_t n;
    char *line;

    if (records_open(&r, &b) != 0)
        return;
    while (records_next(r, &line, &n) == 1)
        assert(line[n] == '\0');
    records_close(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *copy;

    if (size == 0)
        return 0;
    copy = malloc(size); /* so that a byte too far is seen */
    memcpy(copy, data + 1, size - 1);
    switch (data[0] & 3) {
    case 0:
        one_record(copy, size - 1);
        break;
    case 1:
        one_answer(copy, size - 1);
        break;
    case 2:
        one_message(copy, size - 1, 0);
        break;
    default:
        one_batch(copy, size - 1);
        break;
    }
    free(copy);
    return 0;
}
