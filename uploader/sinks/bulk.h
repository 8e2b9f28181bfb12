/* bulk.h - reads the answer of _bulk piece by piece, whatever its length: the status of each item, and why it was refused.
 *
 *     {"errors":true,"items":[{"create":{"status":201}},{"create":{"status":400,"error":{"type":…,"reason":…}}}]}
 *
 * Other members are passed over. Pure; memory is the struct itself. */
#ifndef PILLION_UPLOADER_SINKS_BULK_H
#define PILLION_UPLOADER_SINKS_BULK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BULK_DEPTH      16
#define BULK_TEXT_BYTES 200

struct bulk_item {
    uint32_t index;            /* from 0 */
    long status;               /* 0: none was said */
    const char *type, *reason; /* "" without */
};

typedef void (*bulk_item_cb)(void *arg, const struct bulk_item *item);

struct bulk {
    bulk_item_cb item;
    void *arg;
    uint32_t n;
    unsigned depth;
    bool broken, complete;
    bool in_string, escaped, is_key, number;
    bool array[BULK_DEPTH + 1]; /* what stands at this depth */
    char key[BULK_DEPTH + 1][12];
    char text[BULK_TEXT_BYTES]; /* the string or number that is being read, cut */
    size_t len;
    long status;
    char type[BULK_TEXT_BYTES], reason[BULK_TEXT_BYTES];
};

void bulk_begin(struct bulk *b, bulk_item_cb item, void *arg);
/* false: this is not such an answer; stop. */
bool bulk_feed(struct bulk *b, const char *data, size_t len);
/* Whether it came to its end, as it should. */
bool bulk_complete(const struct bulk *b);

#endif
