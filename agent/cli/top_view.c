#include "agent/cli/top_view.h"

#include <math.h>

#include "agent/base/mem.h"
#include "agent/cli/client.h"
#include "agent/human.h"

#define LINE_BYTES  1024
#define TEXT_BYTES  262144
#define ALERT       "\033[1;97;41m"
#define BOLD        "\033[1m"
#define OFF         "\033[0m"
#define HEADER_ROWS 4 /* what is always there: three lines of header, and that of the table */

static const char keys[] = "sort c cpu  m mem  h heap  l loop  g lag  p pid   r reverse   q quit";

static size_t blocked(const struct top_view *v) {
    size_t n = 0;

    for (size_t i = 0; i < v->n_rows; i++)
        n += strcmp(v->rows[i].state, "blocked") == 0;
    return n;
}

static bool has_keys_line(const struct top_view *v) {
    return v->height >= HEADER_ROWS + 4;
}

size_t top_view_room(const struct top_view *v) {
    size_t used = HEADER_ROWS + (v->trouble != NULL) + (blocked(v) > 0) + has_keys_line(v);

    if (v->height == 0)
        return v->n_rows;
    return v->height > used ? v->height - used : 0;
}

/* One line, cut to the width. */
static void put_line(struct buf *out, const struct top_view *v, const char *colour,
                     const char *text) {
    size_t width = v->style.width > 0 ? v->style.width : LINE_BYTES;

    colour = v->style.colour ? colour : "";
    buf_puts(out, colour);
    human_cell(out, text, width, false, v->style.utf8);
    buf_puts(out, colour[0] != '\0' ? OFF "\n" : "\n");
}

static void count_states(const struct top_view *v, char *out, size_t size) {
    size_t live = 0, silent = 0, gone = 0;

    for (size_t i = 0; i < v->n_rows; i++) {
        live += strcmp(v->rows[i].state, "live") == 0;
        silent += strcmp(v->rows[i].state, "silent") == 0;
        gone += strcmp(v->rows[i].state, "gone") == 0;
    }
    (void)snprintf(out, size, "%zu live", live);
    if (blocked(v) > 0)
        (void)snprintf(out + strlen(out), size - strlen(out), ", %zu BLOCKED", blocked(v));
    if (silent > 0)
        (void)snprintf(out + strlen(out), size - strlen(out), ", %zu silent", silent);
    if (gone > 0)
        (void)snprintf(out + strlen(out), size - strlen(out), ", %zu gone", gone);
}

static void put_title(struct buf *out, const struct top_view *v) {
    const json_t *h = json_object_get(v->status, "helper");
    char up[HUMAN_BYTES], memory[HUMAN_BYTES], cpu[HUMAN_BYTES], states[96], line[LINE_BYTES];

    human_seconds(client_number(v->status, "uptime"), up);
    human_bytes(client_number(h, "memory_bytes"), memory);
    human_percent(client_number(h, "cpu"), cpu);
    count_states(v, states, sizeof(states));
    (void)snprintf(line, sizeof(line), "%.64s on %.64s  %s  helper %s CPU %s%% up %s",
                   client_string(v->status, "app"), client_string(v->status, "instance"), states,
                   memory, cpu, up);
    put_line(out, v, BOLD, line);
}

/* "0.52 of 2.00 cores (26%)": what is not known is left out or "-". */
static void put_cpu(struct buf *out, const struct top_view *v) {
    const json_t *c = json_object_get(v->status, "container");
    double used = client_number(c, "container.cpu.usage");
    double of = client_number(c, "pillion.container.cpu.available");
    char share[HUMAN_BYTES], throttled[HUMAN_BYTES], periods[HUMAN_BYTES], line[LINE_BYTES];
    size_t at;

    human_percent(client_number(c, "pillion.container.cpu.limit_utilization"), share);
    human_seconds(client_number(c, "pillion.container.cpu.throttled_time"), throttled);
    human_number(client_number(c, "pillion.container.cpu.throttled_periods"), periods);
    at = (size_t)snprintf(line, sizeof(line), isfinite(used) ? "CPU    %.2f" : "CPU    -", used);
    if (isfinite(of))
        at += (size_t)snprintf(line + at, sizeof(line) - at, " of %.2f cores (%s%%)", of, share);
    (void)snprintf(line + at, sizeof(line) - at, "  throttled %s in %s periods", throttled,
                   periods);
    put_line(out, v, "", line);
}

static void put_memory(struct buf *out, const struct top_view *v) {
    const json_t *c = json_object_get(v->status, "container");
    double used = client_number(c, "container.memory.working_set");
    double of = client_number(c, "pillion.container.memory.limit");
    double kills = client_number(c, "pillion.container.memory.oom_kills");
    char a[HUMAN_BYTES], b[HUMAN_BYTES], share[HUMAN_BYTES], n[HUMAN_BYTES], line[LINE_BYTES];

    human_bytes(used, a);
    human_bytes(of, b);
    human_percent(used / of, share);
    human_number(kills, n);
    if (isfinite(of))
        (void)snprintf(line, sizeof(line), "Memory %s of %s (%s%%)  OOM kills %s", a, b, share, n);
    else
        (void)snprintf(line, sizeof(line), "Memory %s, no limit  OOM kills %s", a, n);
    put_line(out, v, kills > 0 ? ALERT : "", line);
}

/* Who is blocked, by name: the row itself may be out of sight. */
static void put_blocked(struct buf *out, const struct top_view *v) {
    char line[LINE_BYTES] = "BLOCKED";

    if (blocked(v) == 0)
        return;
    for (size_t i = 0; i < v->n_rows; i++) {
        const struct row *r = &v->rows[i];
        size_t at = strlen(line);

        if (strcmp(r->state, "blocked") == 0 && at + 128 < sizeof(line))
            (void)snprintf(line + at, sizeof(line) - at, "  %ld %s %.60s", (long)r->pid, r->role,
                           r->title);
    }
    put_line(out, v, ALERT, line);
}

void top_view_write(struct buf *out, const struct top_view *v) {
    size_t room = top_view_room(v), first = v->first < v->n_rows ? v->first : 0;
    size_t shown = v->n_rows - first < room ? v->n_rows - first : room;
    char line[LINE_BYTES];

    put_title(out, v);
    if (v->trouble != NULL) {
        (void)snprintf(line, sizeof(line), "no answer: %s (what is shown is old)", v->trouble);
        put_line(out, v, ALERT, line);
    }
    put_cpu(out, v);
    put_memory(out, v);
    put_blocked(out, v);
    rows_write(out, v->rows + first, shown, &v->style);
    if (!has_keys_line(v))
        return;
    for (size_t i = shown; i < room; i++)
        buf_putc(out, '\n');
    if (shown < v->n_rows)
        (void)snprintf(line, sizeof(line), "%zu-%zu of %zu (up, down)  %s", first + 1,
                       first + shown, v->n_rows, keys);
    else
        (void)snprintf(line, sizeof(line), "%s", keys);
    put_line(out, v, "", line);
}
