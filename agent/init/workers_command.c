#include "agent/init/workers_command.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>

#include "agent/base/buf.h"
#include "agent/base/mem.h"
#include "agent/embedded.h"

int workers_command(char ***ret, char **ret_text, const char *dir, unsigned workers,
                    uint64_t stop_ms, char *const *script) {
    static char node[] = "node", eval[] = "-e", end[] = "--";
    size_t n = 0, out = 0, master_at, count_at, stop_at;
    struct buf b;
    char **argv;

    while (script[n] != NULL)
        n++;
    argv = mem_calloc(n + 7, sizeof(*argv));
    if (argv == NULL)
        return -ENOMEM;
    /* One block holds the three strings that are made here. */
    buf_init(&b, embedded_master_js_len + PATH_MAX + 64);
    if (dir != NULL)
        buf_printf(&b, "%s/master.js", dir);
    else
        buf_add(&b, embedded_master_js, embedded_master_js_len);
    master_at = 0;
    buf_putc(&b, '\0');
    count_at = b.len;
    buf_printf(&b, "%u", workers);
    buf_putc(&b, '\0');
    stop_at = b.len;
    buf_printf(&b, "%" PRIu64, stop_ms);
    if (b.err != 0) {
        buf_clear(&b);
        mem_free(argv);
        return -ENOMEM;
    }
    *ret_text = buf_take(&b, NULL);
    argv[out++] = node;
    if (dir == NULL)
        argv[out++] = eval;
    argv[out++] = *ret_text + master_at;
    if (dir == NULL)
        argv[out++] = end;
    argv[out++] = *ret_text + count_at;
    argv[out++] = *ret_text + stop_at;
    memcpy(argv + out, script, n * sizeof(*argv));
    *ret = argv;
    return 0;
}
