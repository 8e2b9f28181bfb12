/* Events of workers: a reason in words, or values within their ranges. */
#include <errno.h>
#include <jansson.h>
#include <stdint.h>

#include "agent/base/mem.h"
#include "ipc/message.h"

static void must(int condition) {
    if (!condition)
        __builtin_trap();
}

static void check(const struct worker_event *e) {
    must(e->kind <= EVENT_NOTE);
    must(e->kind != EVENT_EXIT || (e->code >= 0 && e->code <= 255));
    must(e->kind != EVENT_CHILD_EXIT ||
         (e->pid >= 1 && (e->signal == 0 ? e->code >= 0 && e->code <= 255
                                         : e->code == -1 && e->signal >= 1 && e->signal <= 64)));
    must((e->kind == EVENT_ROLE) == (e->role != NULL));
    must(strlen(e->reason) < sizeof(e->reason) && strlen(e->message) < sizeof(e->message));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct worker_event e;
    char why[256];
    int rc;

    json_set_alloc_funcs(mem_alloc, mem_free);
    json_object_seed(1);
    rc = message_read_event((const char *)data, size, &e, why);
    if (rc == 0)
        check(&e);
    else
        must(rc == -ENOENT || (rc == -EINVAL && why[0] != '\0'));
    must(mem_live() == 0);
    return 0;
}
