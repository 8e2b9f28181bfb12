#include "agent/base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>

#include "agent/base/buf.h"
#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/mem.h"

#define LINE_BYTES 1024

static enum log_level level_now = LOG_LEVEL_INFO;
static enum log_format format_now = LOG_FORMAT_TEXT;
static const char *who_now = "pillion";
static void (*warning_cb)(void *arg, const char *line);
static void *warning_arg;

static const char *const level_names[] = {"error", "warning", "info", "debug"};

void log_setup(enum log_level level, enum log_format format, const char *who) {
    level_now = level;
    format_now = format;
    who_now = who;
}

bool log_wanted(enum log_level level) {
    return level <= level_now;
}

void log_on_warning(void (*cb)(void *arg, const char *line), void *arg) {
    warning_cb = cb;
    warning_arg = arg;
}

/* A terminal or file always takes it; a full pipe must not stop us, and one without a reader (POLLERR) would send SIGPIPE. A pipe
 * that can be written to has room for PIPE_BUF bytes, which is more than the longest line. */
static void write_line(const char *p, size_t n) {
    struct pollfd fd = {.fd = STDERR_FILENO, .events = POLLOUT};

    if (poll(&fd, 1, 0) <= 0 || (fd.revents & (POLLOUT | POLLERR | POLLNVAL)) != POLLOUT ||
        write(STDERR_FILENO, p, n) < 0)
        counter_add(COUNTER_LOG_LINES_DROPPED, 1);
}

/* What a worker or a file said must not move a terminal's cursor or begin a line of its own. */
static void one_line(char *msg) {
    for (; *msg != '\0'; msg++)
        if ((unsigned char)*msg < 0x20 || *msg == 0x7f)
            *msg = ' ';
}

static void format_json(enum log_level level, const char *msg) {
    char when[CLOCK_ISO_BYTES];
    struct buf b;

    clock_iso(clock_wall_ms(), when);
    buf_init(&b, 4 * LINE_BYTES);
    buf_printf(&b, "{\"time\":\"%s\",\"level\":\"%s\",\"who\":\"%s\",\"message\":", when,
               level_names[level], who_now);
    buf_json_string(&b, msg);
    buf_puts(&b, "}\n");
    if (b.err == 0)
        write_line(b.data, b.len);
    else
        counter_add(COUNTER_LOG_LINES_DROPPED, 1);
    buf_clear(&b);
}

void log_line(enum log_level level, const char *fmt, ...) {
    char msg[LINE_BYTES], line[LINE_BYTES + 64];
    int saved = errno, n;
    va_list ap;

    if (level > level_now)
        return;
    va_start(ap, fmt);
    (void)vsnprintf(msg, sizeof(msg), fmt, ap);
    va_end(ap);
    one_line(msg);
    if (format_now == LOG_FORMAT_JSON) {
        format_json(level, msg);
    } else {
        n = snprintf(line, sizeof(line), "%s: %s%s%s\n", who_now,
                     level == LOG_LEVEL_INFO ? "" : level_names[level],
                     level == LOG_LEVEL_INFO ? "" : ": ", msg);
        if (n >= (int)sizeof(line)) {
            n = sizeof(line) - 1;
            line[n - 1] = '\n';
        }
        write_line(line, (size_t)n);
    }
    if (level <= LOG_LEVEL_WARN && warning_cb != NULL)
        warning_cb(warning_arg, msg);
    errno = saved;
}

bool log_due(uint64_t *last, uint64_t every_ms) {
    uint64_t now = clock_mono_ms() + 1; /* 0 means never */

    if (*last != 0 && now - *last < every_ms)
        return false;
    *last = now;
    return true;
}
