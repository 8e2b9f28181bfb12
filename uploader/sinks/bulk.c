#include "uploader/sinks/bulk.h"

#include "agent/base/mem.h"
#include "agent/base/text.h"

/* Depths: 1 the answer, 2 its items, 3 one of them, 4 what was done, 5 the error. */
#define DEPTH_ITEM   3
#define DEPTH_ACTION 4
#define DEPTH_ERROR  5

void bulk_begin(struct bulk *b, bulk_item_cb item, void *arg) {
    *b = (struct bulk){.item = item, .arg = arg};
}

bool bulk_complete(const struct bulk *b) {
    return b->complete && !b->broken;
}

static bool in_items(const struct bulk *b) {
    return strcmp(b->key[1], "items") == 0 && b->array[2];
}

/* A string or a number has ended. */
static void take_value(struct bulk *b) {
    b->text[b->len] = '\0';
    if (b->is_key) {
        (void)text_copy(b->key[b->depth], sizeof(b->key[0]), b->text); /* cut ones are not ours */
        return;
    }
    if (!in_items(b))
        return;
    if (b->depth == DEPTH_ACTION && strcmp(b->key[DEPTH_ACTION], "status") == 0) {
        uint64_t status = 0;

        (void)text_u64(b->text, &status); /* what is no number stays 0 */
        b->status = status < 1000 ? (long)status : 0;
    } else if (b->depth == DEPTH_ERROR && strcmp(b->key[DEPTH_ACTION], "error") == 0) {
        if (strcmp(b->key[DEPTH_ERROR], "type") == 0)
            (void)text_copy(b->type, sizeof(b->type), b->text);
        else if (strcmp(b->key[DEPTH_ERROR], "reason") == 0)
            (void)text_copy(b->reason, sizeof(b->reason), b->text);
    }
}

static void open_level(struct bulk *b, bool array) {
    if (b->depth == BULK_DEPTH || b->complete) {
        b->broken = true;
        return;
    }
    b->depth++;
    b->array[b->depth] = array;
    b->key[b->depth][0] = '\0';
    b->is_key = !array;
    if (b->depth == DEPTH_ITEM) {
        b->status = 0;
        b->type[0] = b->reason[0] = '\0';
    }
}

static void close_level(struct bulk *b, bool array) {
    if (b->depth == 0 || b->array[b->depth] != array) {
        b->broken = true;
        return;
    }
    if (b->depth == DEPTH_ITEM && in_items(b)) {
        struct bulk_item item = {
            .index = b->n, .status = b->status, .type = b->type, .reason = b->reason};

        b->n++;
        b->item(b->arg, &item);
    }
    b->depth--;
    b->is_key = false;
    b->complete = b->depth == 0;
}

static void put(struct bulk *b, char c) {
    if (b->len < sizeof(b->text) - 1)
        b->text[b->len++] = (unsigned char)c < 0x20 ? ' ' : c;
}

static void string_byte(struct bulk *b, char c) {
    if (b->escaped) {
        put(b, c == 'n' || c == 't' || c == 'r' ? ' ' : c);
        b->escaped = false;
    } else if (c == '\\') {
        b->escaped = true;
    } else if (c == '"') {
        b->in_string = false;
        take_value(b);
    } else {
        put(b, c);
    }
}

static void end_number(struct bulk *b) {
    if (b->number)
        take_value(b);
    b->number = false;
}

static void byte(struct bulk *b, char c) {
    switch (c) {
    case '"':
        b->in_string = true;
        b->len = 0;
        break;
    case '{':
    case '[':
        open_level(b, c == '[');
        break;
    case '}':
    case ']':
        end_number(b);
        close_level(b, c == ']');
        break;
    case ':':
        b->is_key = false;
        break;
    case ',':
        end_number(b);
        b->is_key = b->depth > 0 && !b->array[b->depth];
        break;
    case ' ':
    case '\t':
    case '\r':
    case '\n':
        break;
    default: /* a number, true, false, null */
        if (!b->number)
            b->len = 0;
        b->number = true;
        put(b, c);
        if (b->depth == 0)
            b->broken = true;
        break;
    }
}

bool bulk_feed(struct bulk *b, const char *data, size_t len) {
    for (size_t i = 0; i < len && !b->broken; i++) {
        if (b->in_string)
            string_byte(b, data[i]);
        else
            byte(b, data[i]);
    }
    return !b->broken;
}
