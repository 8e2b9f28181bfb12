#include "agent/cli/report.h"

#include <stdarg.h>

#include "agent/base/mem.h"
#include "agent/human.h"

#define REPORT_BYTES 262144
#define LINE_BYTES   1024
#define LINE_COLUMNS 1000

static const char *const names[] = {"ok", "warn", "fail"};
static const char *const colours[] = {"\033[32m", "\033[33m", "\033[1;31m"};

void report_init(struct report *r, bool json, bool colour) {
    *r = (struct report){.json = json, .colour = colour && !json};
    buf_init(&r->out, REPORT_BYTES);
    if (json)
        buf_puts(&r->out, "{\"checks\":[");
}

void report_clear(struct report *r) {
    buf_clear(&r->out);
}

static void add_json(struct report *r, enum report_result result, const char *check,
                     const char *advice, const char *text) {
    bool first = r->counts[0] + r->counts[1] + r->counts[2] == 0;

    buf_printf(&r->out, "%s{\"check\":\"%s\",\"result\":\"%s\",\"text\":", first ? "" : ",", check,
               names[result]);
    buf_json_string(&r->out, text);
    if (advice != NULL) {
        buf_puts(&r->out, ",\"advice\":");
        buf_json_string(&r->out, advice);
    }
    buf_putc(&r->out, '}');
}

void report_add(struct report *r, enum report_result result, const char *check, const char *advice,
                const char *fmt, ...) {
    char text[LINE_BYTES];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* cut is fine */
    va_end(ap);
    if (r->json) {
        add_json(r, result, check, advice, text);
    } else {
        buf_printf(&r->out, "%s%-4s%s  %-14s ", r->colour ? colours[result] : "", names[result],
                   r->colour ? "\033[0m" : "", check);
        human_cell(&r->out, text, LINE_COLUMNS, false, true);
        buf_putc(&r->out, '\n');
        if (advice != NULL)
            buf_printf(&r->out, "                      %s\n", advice);
    }
    r->counts[result]++;
}

void report_end(struct report *r) {
    if (r->json)
        buf_printf(&r->out, "],\"ok\":%s,\"warnings\":%u,\"failures\":%u}\n",
                   r->counts[REPORT_FAIL] == 0 ? "true" : "false", r->counts[REPORT_WARN],
                   r->counts[REPORT_FAIL]);
    else
        buf_printf(&r->out, "%u ok, %u to look at, %u failed\n", r->counts[REPORT_OK],
                   r->counts[REPORT_WARN], r->counts[REPORT_FAIL]);
}
