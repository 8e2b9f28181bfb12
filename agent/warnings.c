#include "agent/warnings.h"

#include "agent/base/clock.h"
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/text.h"

static void on_warning(void *arg, const char *line) {
    warnings_add(arg, line);
}

int warnings_init(struct warnings *w) {
    int rc;

    memset(w, 0, sizeof(*w));
    rc = uv_mutex_init(&w->lock);
    if (rc == 0)
        log_on_warning(on_warning, w);
    return rc;
}

void warnings_clear(struct warnings *w) {
    log_on_warning(NULL, NULL);
    uv_mutex_destroy(&w->lock);
}

/* The place of the nth newest line, n from 1. */
static struct warning *newest(struct warnings *w, unsigned n) {
    return &w->ring[(w->next + LIMIT_WARNINGS - n) % LIMIT_WARNINGS];
}

void warnings_add(struct warnings *w, const char *line) {
    char cut[WARNING_BYTES];
    struct warning *last;

    (void)text_copy(cut, sizeof(cut), line);
    uv_mutex_lock(&w->lock);
    last = newest(w, 1);
    if (last->times == 0 || strcmp(last->line, cut) != 0) {
        last = &w->ring[w->next];
        w->next = (w->next + 1) % LIMIT_WARNINGS;
        last->times = 0;
        memcpy(last->line, cut, sizeof(cut));
    }
    last->times++;
    last->wall_ms = clock_wall_ms();
    uv_mutex_unlock(&w->lock);
}

void warnings_json(struct warnings *w, struct buf *out) {
    bool first = true;

    buf_putc(out, '[');
    uv_mutex_lock(&w->lock);
    for (unsigned n = 1; n <= LIMIT_WARNINGS; n++) {
        const struct warning *x = newest(w, n);
        char when[CLOCK_ISO_BYTES];

        if (x->times == 0)
            continue;
        clock_iso(x->wall_ms, when);
        buf_printf(out, "%s{\"time\":\"%s\",\"message\":", first ? "" : ",", when);
        buf_json_string(out, x->line);
        buf_puts(out, ",\"times\":");
        buf_u64(out, x->times);
        buf_putc(out, '}');
        first = false;
    }
    uv_mutex_unlock(&w->lock);
    buf_putc(out, ']');
}
