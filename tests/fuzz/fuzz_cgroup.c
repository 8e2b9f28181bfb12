/* fuzz_cgroup.c - any bytes as each of the files that are read of a control group, /proc/net/dev and CPU lists. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "agent/base/mem.h"
#include "collectors/cgroup/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Unknown, or a number that can be: never negative, never infinite. */
static void check(double v) {
    if (v < 0 || isinf(v))
        __builtin_trap();
}

static void check_lists(const char *text) {
    struct parse_io io = parse_io_stat(text);
    struct parse_net net = parse_net_dev(text);
    struct parse_cpus cpus;

    check(io.read);
    check(io.written);
    io = parse_blkio(text);
    check(io.read);
    check(io.written);
    for (int way = 0; way < 2; way++) {
        check(net.bytes[way]);
        check(net.errors[way]);
        check(net.dropped[way]);
    }
    if (parse_cpu_list(text, &cpus)) {
        if (parse_cpus_count(&cpus) == 0 || parse_cpus_count(&cpus) > PARSE_CPUS)
            __builtin_trap();
        parse_cpus_and(&cpus, &cpus);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = mem_strndup((const char *)data, size);

    if (text == NULL)
        return 0;
    check(parse_number(text));
    check(parse_limit(text));
    check(parse_cpu_max(text));
    check(parse_key(text, "anon"));
    check(parse_key(text, "oom_kill"));
    check(parse_pressure(text, "some"));
    check(parse_pressure(text, "full"));
    check_lists(text);
    mem_free(text);
    return 0;
}
