/* Hellos: either a reason in words, or a layout that keeps all of its promises. */
#include <errno.h>
#include <jansson.h>
#include <stdint.h>

#include "agent/base/mem.h"
#include "ipc/message.h"

static void must(int condition) {
    if (!condition)
        __builtin_trap();
}

static void check(const struct hello *h) {
    size_t slots = 0;

    must(h->protocol == 1 && h->pid >= 1 && h->ppid >= 0 && h->next >= 1 && h->role != NULL);
    must(h->schema->n_fields >= 1 && h->schema->n_fields <= LIMIT_FIELDS);
    for (size_t i = 0; i < h->schema->n_fields; i++) {
        const struct field *f = &h->schema->fields[i];

        must(f->slot == slots && f->n_attributes <= LIMIT_ATTRIBUTES);
        must((f->kind == FIELD_HISTOGRAM) == (f->n_bounds > 0) && f->n_bounds <= LIMIT_BOUNDS);
        for (size_t k = 1; k < f->n_bounds; k++)
            must(f->bounds[k] > f->bounds[k - 1]);
        for (const char *c = f->key; *c != '\0'; c++)
            must(*c > ' ' && *c <= '~' && *c != '"' && *c != '\\');
        slots += f->kind == FIELD_HISTOGRAM ? f->n_bounds + 2u : 1u;
    }
    must(slots == h->schema->n_slots && slots <= LIMIT_SLOTS);
    for (const char *c = h->title; *c != '\0'; c++)
        must((unsigned char)*c >= ' ' && *c != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct hello h;
    char why[256];
    int rc;

    json_set_alloc_funcs(mem_alloc, mem_free);
    json_object_seed(1);
    rc = message_read_hello((const char *)data, size, &h, why);
    if (rc == 0) {
        check(&h);
        message_clear_hello(&h);
    } else {
        must((rc == -EINVAL || rc == -EPROTONOSUPPORT) && why[0] != '\0' && strlen(why) < 256);
    }
    must(mem_live() == 0);
    return 0;
}
