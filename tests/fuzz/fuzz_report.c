/* Reports: never longer than before, nothing beyond its end is touched, and a second time changes nothing. */
#include <stdint.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/reports.h"

static void must(int condition) {
    if (!condition)
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = mem_memdup(data, size), *before;
    size_t len;

    if (text == NULL)
        return 0;
    len = report_strip(text, size);
    must(len <= size);
    before = mem_memdup(text, len);
    must(report_strip(text, len) == len && (before == NULL || memcmp(text, before, len) == 0));
    mem_free(before);
    mem_free(text);
    must(mem_live() == 0);
    return 0;
}
