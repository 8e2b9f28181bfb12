/* Notifications on disk: names and contents that anybody may have put there. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "uploader/notify/note_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void one_name(const char *text) {
    char id[NOTE_ID_BYTES], again[NOTE_FILE_BYTES];
    int64_t time_ms;
    unsigned needed;

    if (!note_file_parse_name(text, &time_ms, &needed, id))
        return;
    note_file_name(again, time_ms, needed, id);
    assert(strcmp(again, text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = malloc(size + 1), *targets[LIMIT_NOTIFY_TARGETS];
    unsigned n = 0;
    size_t body = 0;

    memcpy(text, data, size);
    text[size] = '\0';
    one_name(text);
    if (note_file_parse_head(text, size, targets, &n, &body) == 0) {
        assert(n > 0 && n <= LIMIT_NOTIFY_TARGETS && body <= size);
        while (n > 0)
            mem_free(targets[--n]);
    }
    assert(n == 0 && mem_live() == 0);
    free(text);
    return 0;
}
