#include "agent/init/exit_record.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>

#include "agent/base/clock.h"
#include "agent/base/fs.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/init/own_cgroup.h"

#define RECORD_BYTES 1024

int64_t exit_record_oom_kills(const char *root) {
    struct own_cgroup c;
    char text[1024], *p;
    int64_t n;

    if (own_cgroup_find(&c, root, "memory", "memory.oom_control", "memory.events") != 0 ||
        own_cgroup_read(&c, c.v2 ? "memory.events" : "memory.oom_control", text, sizeof(text)) != 0)
        return -1;
    p = strstr(text, "oom_kill "); /* "oom_kill_disable 0" stands in front of it in v1 */
    return p != NULL && sscanf(p, "oom_kill %" SCNd64, &n) == 1 ? n : -1;
}

static void number_or_null(struct buf *out, const char *key, int64_t n, bool known) {
    if (known)
        buf_printf(out, ",\"%s\":%" PRId64, key, n);
    else
        buf_printf(out, ",\"%s\":null", key);
}

void exit_record_format(const struct exit_record *r, struct buf *out) {
    char when[CLOCK_ISO_BYTES];

    clock_iso(r->wall_ms, when);
    buf_puts(out, "{\"time\":");
    buf_json_string(out, when);
    number_or_null(out, "app_pid", r->app_pid, true);
    number_or_null(out, "code", r->code, r->sig == 0);
    number_or_null(out, "signal", r->sig, r->sig != 0);
    number_or_null(out, "oom_kills", r->oom_kills, r->oom_kills >= 0);
    number_or_null(out, "peak_rss_bytes", (int64_t)r->peak_rss_bytes, true);
    number_or_null(out, "helper_restarts", r->helper_restarts, true);
    number_or_null(out, "last_signal_received", r->last_signal, r->last_signal != 0);
    buf_puts(out, "}\n");
}

void exit_record_write(const struct exit_record *r, const char *data_dir) {
    char why[256];
    struct buf b;
    int fd;

    buf_init(&b, RECORD_BYTES);
    fd = fs_private_dir(data_dir, 0700, why, sizeof(why));
    exit_record_format(r, &b);
    if (fd < 0) {
        log_debug("no exit record: %s", why);
    } else if (b.err == 0) {
        int rc = fs_write_at(fd, "exit.json", b.data, b.len, 0600);

        if (rc != 0)
            log_debug("no exit record in %s: %s", data_dir, strerror(-rc));
    }
    if (fd >= 0)
        close(fd);
    buf_clear(&b);
}

void exit_record_say(const struct exit_record *r) {
    if (r->oom_kills > 0)
        log_warn("the kernel killed %" PRId64 " process%s of this container for want of memory",
                 r->oom_kills, r->oom_kills == 1 ? "" : "es");
    if (r->sig != 0 && r->sig != r->last_signal && r->last_signal != SIGTERM)
        log_warn("the application (pid %ld) was ended by signal %d (%s)", (long)r->app_pid, r->sig,
                 strsignal(r->sig));
}
