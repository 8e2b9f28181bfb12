#include "agent/events.h"

#include "agent/base/clock.h"
#include "agent/base/counters.h"
#include "agent/base/mem.h"

#define EVENT_BYTES    65536
#define FLUSH_EVERY_MS 1000

void events_init(struct events *e, struct uploader *uploader) {
    *e = (struct events){.uploader = uploader};
    buf_init(&e->line, EVENT_BYTES);
}

void events_clear(struct events *e) {
    buf_clear(&e->line);
}

struct buf *events_begin(struct events *e, const struct worker *w, const char *name) {
    char when[CLOCK_ISO_BYTES];

    clock_iso(clock_wall_ms(), when);
    buf_reset(&e->line);
    buf_printf(&e->line, "{\"kind\":\"event\",\"time\":\"%s\",\"event\":\"%s\"", when, name);
    if (w != NULL)
        buf_printf(&e->line, ",\"worker\":\"%s\",\"pid\":%ld,\"role\":\"%s\"", w->id, (long)w->pid,
                   w->role);
    if (w != NULL && w->thread != 0)
        buf_printf(&e->line, ",\"thread\":%u", (unsigned)w->thread);
    return &e->line;
}

static void flush(struct events *e) {
    e->flush_wanted = false;
    e->flushed_ms = clock_mono_ms();
    uploader_flush(e->uploader);
}

void events_emit(struct events *e, bool urgent) {
    uint64_t seq;

    buf_putc(&e->line, '}');
    if (e->line.err != 0 || uploader_add(e->uploader, e->line.data, e->line.len, &seq) != 0) {
        counter_add(COUNTER_EVENTS_DROPPED, 1);
        return;
    }
    counter_add(COUNTER_EVENTS, 1);
    counter_add(COUNTER_RECORDS, 1);
    e->flush_wanted |= urgent;
    events_tick(e);
}

void events_tick(struct events *e) {
    if (e->flush_wanted && clock_mono_ms() - e->flushed_ms >= FLUSH_EVERY_MS)
        flush(e);
}
