#include "agent/rows.h"

#include <math.h>

#include "agent/base/mem.h"
#include "agent/human.h"

#define WIDE           200 /* instead of a terminal's width */
#define LEAST_TITLE    8
#define LEAST_HISTORY  8
#define MOST_HISTORY   30
#define CELL_BYTES     32
#define COLOUR_BLOCKED "\033[1;97;41m"
#define COLOUR_SILENT  "\033[33m"
#define COLOUR_GONE    "\033[2m"
#define COLOUR_HEAD    "\033[7m"
#define COLOUR_OFF     "\033[0m"

enum column { PID, ROLE, STATE, CPU, MEMORY, HEAP, LOOP, LAG, HISTORY, TITLE, COLUMNS };

static const struct {
    const char *head;
    size_t width;
    bool right;
    int key; /* enum row_key, or -1 */
} columns[COLUMNS] = {
    [PID] = {"PID", 7, true, ROW_PID},         [ROLE] = {"ROLE", 7, false, -1},
    [STATE] = {"STATE", 7, false, -1},         [CPU] = {"CPU%", 4, true, ROW_CPU},
    [MEMORY] = {"MEM", 5, true, ROW_MEMORY},   [HEAP] = {"HEAP", 5, true, ROW_HEAP},
    [LOOP] = {"LOOP%", 5, true, ROW_LOOP},     [LAG] = {"LAG99", 5, true, ROW_LAG},
    [HISTORY] = {"CPU HISTORY", 0, false, -1}, [TITLE] = {"TITLE", 0, false, -1},
};

/* What goes first where it is narrow. */
static const enum column least_needed[] = {TITLE, HISTORY, ROLE, LAG, HEAP, STATE, LOOP, MEMORY};

/* --- order ------------------------------------------------------------------------------------ */

static double key_of(const struct row *r, enum row_key key) {
    switch (key) {
    case ROW_CPU:
        return r->cpu;
    case ROW_MEMORY:
        return r->memory;
    case ROW_HEAP:
        return r->heap;
    case ROW_LOOP:
        return r->loop;
    case ROW_LAG:
        return r->lag;
    case ROW_PID:
        break;
    }
    return -(double)r->pid; /* numbers go down by themselves, pids up */
}

static bool before(const struct row *a, const struct row *b, enum row_key key, bool reverse) {
    double x = key_of(a, key), y = key_of(b, key);

    if (isnan(x) != isnan(y))
        return isnan(y);
    if (!isnan(x) && x != y)
        return reverse ? x < y : x > y;
    return a->pid != b->pid ? a->pid < b->pid : a->thread < b->thread;
}

/* By insertion: there are few, and they are nearly in order already. Rows are large, so places
 * are found first. */
void rows_sort(struct row *rows, size_t n, enum row_key key, bool reverse) {
    for (size_t i = 1; i < n; i++) {
        struct row moved;
        size_t at = i;

        while (at > 0 && before(&rows[i], &rows[at - 1], key, reverse))
            at--;
        if (at == i)
            continue;
        moved = rows[i];
        memmove(&rows[at + 1], &rows[at], (i - at) * sizeof(*rows));
        rows[at] = moved;
    }
}

/* --- layout ----------------------------------------------------------------------------------- */

static size_t total(const size_t *widths) {
    size_t sum = 0;

    for (size_t c = 0; c < COLUMNS; c++)
        sum += widths[c] > 0 ? widths[c] + 1 : 0;
    return sum > 0 ? sum - 1 : 0;
}

/* widths[c] 0: left out. */
static void lay_out(const struct row *rows, size_t n, size_t width, size_t *widths) {
    size_t spare;

    for (size_t c = 0; c < COLUMNS; c++)
        widths[c] = columns[c].width;
    for (size_t i = 0; i < n; i++) {
        char text[CELL_BYTES];
        size_t len =
            (size_t)snprintf(text, sizeof(text), "%ld/%u", (long)rows[i].pid, rows[i].thread);

        if (rows[i].thread != 0 && len > widths[PID])
            widths[PID] = len;
    }
    widths[HISTORY] = LEAST_HISTORY;
    widths[TITLE] = LEAST_TITLE;
    for (size_t i = 0; i < ARRAY_LEN(least_needed) && total(widths) > width; i++)
        widths[least_needed[i]] = 0;
    spare = width > total(widths) ? width - total(widths) : 0;
    if (widths[HISTORY] > 0) {
        size_t more = widths[TITLE] > 0 ? spare / 3 : spare;

        more = more > MOST_HISTORY - LEAST_HISTORY ? MOST_HISTORY - LEAST_HISTORY : more;
        widths[HISTORY] += more;
        spare -= more;
    }
    if (widths[TITLE] > 0)
        widths[TITLE] += spare;
}

static void cell_text(const struct row *r, enum column c, char out[CELL_BYTES]) {
    switch (c) {
    case PID:
        if (r->thread == 0)
            (void)snprintf(out, CELL_BYTES, "%ld", (long)r->pid);
        else
            (void)snprintf(out, CELL_BYTES, "%ld/%u", (long)r->pid, r->thread);
        break;
    case ROLE:
        (void)snprintf(out, CELL_BYTES, "%s", r->role);
        break;
    case STATE: /* seen without colour, too */
        (void)snprintf(out, CELL_BYTES, "%s",
                       strcmp(r->state, "blocked") == 0 ? "BLOCKED" : r->state);
        break;
    case CPU:
        human_percent(r->cpu, out);
        break;
    case MEMORY:
        human_bytes(r->memory, out);
        break;
    case HEAP:
        human_bytes(r->heap, out);
        break;
    case LOOP:
        human_percent(r->loop, out);
        break;
    case LAG:
        human_seconds(r->lag, out);
        break;
    case HISTORY:
    case TITLE:
    case COLUMNS:
        out[0] = '\0';
        break;
    }
}

static void put_padded(struct buf *out, const char *text, size_t width, bool right, bool pad,
                       bool utf8) {
    size_t w = human_width(text);

    for (size_t i = w; right && i < width; i++)
        buf_putc(out, ' ');
    human_cell(out, text, right && w < width ? w : width, pad, utf8);
}

static enum column last_shown(const size_t *widths) {
    size_t c = COLUMNS;

    while (c > 1 && widths[c - 1] == 0)
        c--;
    return (enum column)(c - 1);
}

static void put_header(struct buf *out, const size_t *widths, const struct rows_style *style) {
    enum column last = last_shown(widths);

    for (enum column c = 0; c < COLUMNS; c++) {
        bool mark = style->mark_sorted && style->colour && columns[c].key == (int)style->sorted;

        if (widths[c] == 0)
            continue;
        buf_puts(out, mark ? COLOUR_HEAD : "");
        put_padded(out, columns[c].head, widths[c], columns[c].right, c != last, style->utf8);
        buf_puts(out, mark ? COLOUR_OFF : "");
        if (c != last)
            buf_putc(out, ' ');
    }
    buf_putc(out, '\n');
}

static const char *colour_of(const struct row *r) {
    return strcmp(r->state, "blocked") == 0  ? COLOUR_BLOCKED
           : strcmp(r->state, "silent") == 0 ? COLOUR_SILENT
           : strcmp(r->state, "gone") == 0   ? COLOUR_GONE
                                             : NULL;
}

static void put_row(struct buf *out, const struct row *r, const size_t *widths,
                    const struct rows_style *style) {
    const char *colour = style->colour ? colour_of(r) : NULL;
    enum column last = last_shown(widths);

    buf_puts(out, colour != NULL ? colour : "");
    for (enum column c = 0; c < COLUMNS; c++) {
        char text[CELL_BYTES];

        if (widths[c] == 0)
            continue;
        cell_text(r, c, text);
        if (c == HISTORY)
            human_spark(out, r->history, r->n_history, widths[c], style->utf8);
        else if (c == TITLE)
            human_title(out, r->title, widths[c], style->utf8);
        else
            put_padded(out, text, widths[c], columns[c].right, c != last, style->utf8);
        if (c != last)
            buf_putc(out, ' ');
    }
    buf_puts(out, colour != NULL ? COLOUR_OFF "\n" : "\n");
}

void rows_write(struct buf *out, const struct row *rows, size_t n, const struct rows_style *style) {
    size_t widths[COLUMNS];

    lay_out(rows, n, style->width > 0 ? style->width : WIDE, widths);
    put_header(out, widths, style);
    for (size_t i = 0; i < n; i++)
        put_row(out, &rows[i], widths, style);
}
