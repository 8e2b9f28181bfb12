/* fuzz_proc_stat.c - any bytes as /proc/<pid>/stat. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "agent/base/mem.h"
#include "collectors/proc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text =
        mem_strndup((const char *)data, size); /* exact size: the sanitizer sees one byte too far */
    struct proc_reading r = {0};
    struct proc_identity id;

    if (text != NULL && proc_parse_stat(text, &id, &r) == 0) {
        for (int i = 0; i < PROC_METRICS; i++)
            if (r.values[i] < 0)
                __builtin_trap();
        if (id.pid <= 0 || strlen(id.comm) >= sizeof(id.comm) || id.exit_status < -1)
            __builtin_trap();
    }
    mem_free(text);
    return 0;
}
