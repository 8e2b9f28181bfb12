/* Commands: a reason in words, or values within their ranges and an id that can stand in a file's name. */
#include <errno.h>
#include <jansson.h>
#include <stdint.h>

#include "agent/base/mem.h"
#include "agent/commands.h"

static void must(int condition) {
    if (!condition)
        __builtin_trap();
}

static void check(const struct command *c) {
    must(c->id[0] == '\0' || command_id_is_good(c->id));
    must(strchr(c->id, '/') == NULL && c->id[0] != '.');
    must(c->worker[0] != '\0');
    must(c->order.action < CAPTURE_ACTIONS);
    must(c->order.seconds <= 300);
    must(c->order.interval_us == 0 ||
         (c->order.interval_us >= 100 && c->order.interval_us <= 100000));
    must(c->order.deadline_ms > 0 && c->order.deadline_ms <= 600000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char why[COMMAND_WHY_BYTES];
    struct command c;
    int rc;

    json_set_alloc_funcs(mem_alloc, mem_free);
    json_object_seed(1);
    rc = command_read((const char *)data, size, &c, why);
    if (rc == 0)
        check(&c);
    else
        must(rc == -EINVAL && why[0] != '\0');
    must(mem_live() == 0);
    return 0;
}
